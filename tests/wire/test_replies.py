"""Error bodies and headers of any shape give words and numbers, never another error."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_actors.wire.connection import idle_seconds
from tinker_actors.wire.replies import expected_seq_id, reply_detail, retry_after

_DATE = "Mon, 01 Jan 2024 00:00:00 GMT"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"detail": [{"loc": ["body", "rank"], "msg": "too high"}]}', "body.rank: too high"),
        (b'{"detail": [{"loc": ["data", 3], "msg": "empty"}]}', "data.3: empty"),
        (b'{"detail": [{"loc": 5, "msg": "no list"}]}', "no list"),
        (b'{"msg": "x", "loc": true}', "x"),
        (b'{"msg": {"detail": "inner"}}', "inner"),
        (b'{"detail": 123456789012345678901234567890}', "123456789012345678901234567890"),
    ],
)
def test_the_words_of_odd_bodies(body: bytes, detail: str) -> None:
    assert reply_detail(400, body) == detail


@pytest.mark.parametrize("levels", [1, 9, 100, 480, 980])
@pytest.mark.parametrize(("left", "right"), [(b"[", b"]"), (b'{"detail":', b"}")])
def test_deeply_nested_bodies_are_quoted(levels: int, left: bytes, right: bytes) -> None:
    body = left * levels + b'"deep"' + right * levels
    assert "deep" in reply_detail(400, body)
    assert expected_seq_id(409, body, "") is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(("detail", "error", "msg", "loc", "x")), inner),
)


@given(_JSON | st.binary())
def test_no_body_raises(content: object) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    detail = reply_detail(409, body)
    detail.encode()
    expected_seq_id(409, body, detail)


@pytest.mark.parametrize(
    "text",
    [
        "Mon, 01 Jan 99999999999 00:00:00 GMT",
        "Mon, 01 Jan 2024 99999999999999999999:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +9999999999",
        "soon",
        "-5",
        "nan",
        "1e999",
    ],
)
def test_a_retry_after_that_makes_no_sense_is_none(text: str) -> None:
    assert retry_after({"retry-after": text, "date": _DATE}) is None
    assert retry_after({"retry-after": _DATE, "date": text}) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "1e9"},
        {"retry-after-ms": "1e300"},
        {"retry-after": "Mon, 01 Jan 2299 00:00:00 GMT", "date": _DATE},
    ],
)
def test_a_retry_after_is_an_hour_at_most(headers: dict[str, str]) -> None:
    assert retry_after(headers) == 3600.0


@pytest.mark.parametrize("text", ["timeout=²", "timeout=٣", "timeout=", "timeout=-1", "max=5"])
def test_a_keep_alive_that_makes_no_sense_does_not_count(text: str) -> None:
    assert idle_seconds({"keep-alive": text}, 4.0) == 4.0
