"""Whose fault an exception is, along the chain of its causes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tinker_actors.errors import InvalidInput, RequestFailedError, status_error
from tinker_actors.telemetry.exceptions import find_user_error, traceback_of


class Odd(Exception):
    def __init__(self, **fields: Any) -> None:
        super().__init__("odd")
        self.__dict__.update(fields)


def chained(outer: BaseException, inner: BaseException) -> BaseException:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 499])
@pytest.mark.parametrize("field", ["status", "status_code", "plug_status"])
def test_a_status_of_the_user_s(status: int, field: str):
    found = find_user_error(Odd(**{field: status}))
    assert found is not None
    assert found.status_code == status


@pytest.mark.parametrize("status", [399, 408, 429, 500, 503, 200, 0, -400, None, "400", 400.0, SimpleNamespace()])
@pytest.mark.parametrize("field", ["status", "status_code", "plug_status"])
def test_a_status_that_is_not(status: Any, field: str):
    assert find_user_error(Odd(**{field: status})) is None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (status_error(422, "bad"), 422),
        (RequestFailedError("bad", category="user", request_id="r"), None),
        (InvalidInput("a", "b", "c"), None),
        (Odd(category="user"), None),
    ],
)
def test_what_the_library_itself_raises(error: BaseException, status: int | None):
    found = find_user_error(error)
    assert found is not None
    assert (found.error, found.status_code) == (error, status)


@pytest.mark.parametrize(
    "error", [RuntimeError(), status_error(503, "x"), RequestFailedError("x", category="server", request_id="r")]
)
def test_what_is_nobody_s_or_the_server_s(error: BaseException):
    assert find_user_error(error) is None


def test_each_kind_of_link_is_followed():
    bad = Odd(status=400)
    for field in ("cause", "reason", "__cause__", "__context__"):
        outer = Odd()
        setattr(outer, field, chained(RuntimeError(), bad))
        assert find_user_error(outer).error is bad  # pyright: ignore[reportOptionalMemberAccess]
    assert find_user_error(ExceptionGroup("g", [KeyError(), ExceptionGroup("h", [bad])])) is not None


def raised(work: Callable[[], object]) -> BaseException:
    try:
        work()
    except Exception as error:  # whatever it is
        return error
    raise AssertionError


def test_a_context_that_was_hidden_is_no_cause():
    def work() -> None:
        try:
            raise Odd(status=400)
        except Odd:
            raise RuntimeError from None

    assert find_user_error(raised(work)) is None


def test_the_first_one_in_depth_counts():
    deep = chained(RuntimeError(), Odd(status=404))
    outer = Odd(cause=deep, reason=Odd(status=403))
    assert find_user_error(outer).status_code == 404  # pyright: ignore[reportOptionalMemberAccess]


def test_cycles_end_and_deep_chains_are_searched():
    one, two = Odd(), Odd()
    one.__cause__, two.__cause__ = two, one
    one.cause = one  # pyright: ignore[reportAttributeAccessIssue]
    assert find_user_error(one) is None
    chain: BaseException = Odd(status=400)
    for _ in range(900):
        chain = chained(RuntimeError(), chain)
    assert find_user_error(chain) is not None
    for _ in range(100_000):
        chain = chained(RuntimeError(), chain)
    assert find_user_error(chain) is None  # and it took no time


def test_a_field_that_can_not_be_read_is_none():
    class Hostile(Exception):
        def __getattribute__(self, name: str) -> Any:
            if name in ("status", "cause", "category"):
                raise OSError(name)
            return super().__getattribute__(name)

    assert find_user_error(chained(Hostile(), Odd(status=400))) is not None


def dig(depth: int) -> None:
    if depth == 0:
        raise KeyError("bottom")
    dig_on(depth - 1)


def dig_on(depth: int) -> None:
    dig(depth)


def test_a_traceback_holds_the_causes():
    def odd_names_of_the_way_out() -> None:
        try:
            dig(3)
        except KeyError as error:
            raise ValueError("top") from error

    text = traceback_of(raised(odd_names_of_the_way_out))
    assert "KeyError: 'bottom'\n\nThis led to:" in text
    assert "in odd_names_of_the_way_out" in text
    assert 'raise KeyError("bottom")' in text
    assert text.endswith("ValueError: top")


def test_the_innermost_frames_of_a_deep_stack_are_shown():
    text = traceback_of(raised(lambda: dig(200)))
    assert text.count("File ") == 60
    assert 'raise KeyError("bottom")' in text


def test_of_very_many_causes_the_last_are_shown():
    chain: BaseException = KeyError("first")
    for number in range(100_000):
        chain = chained(RuntimeError(f"no. {number}"), chain)
    text = traceback_of(chain)
    assert text.count("This led to") == 9
    assert text.endswith("no. 99999")
    assert "first" not in text
    chain.__cause__ = chain
    assert traceback_of(chain).count("RuntimeError") == 1


def test_members_of_a_group_are_shown():
    error = ExceptionGroup("all", [ValueError("one"), ExceptionGroup("inner", [KeyError("two")])])
    text = traceback_of(error)
    for part in ("ExceptionGroup: all", "ValueError: one", "ExceptionGroup: inner", "KeyError: 'two'"):
        assert part in text
    many = ExceptionGroup("many", [ValueError(number) for number in range(1000)])
    assert traceback_of(many).count("ValueError") == 10
    for _ in range(100):
        many = ExceptionGroup("deep", [many])
    assert traceback_of(many).count("deep") == 4


def test_an_exception_that_can_not_be_printed():
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise OSError

    assert "Unprintable: <it can't be printed: OSError>" in traceback_of(Unprintable())
