"""What an event may carry is made fit to be sent, whatever it is, and never fails."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from enum import Enum, StrEnum
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_actors.codec.json import encode_json
from tinker_actors.telemetry.serializer import Serializer

KEY = "tml-very-secret"


def fit(value: object) -> Any:
    return Serializer(lambda text: text.replace(KEY, "[hidden]")).data(value)


class Colour(Enum):
    RED = 1


class Word(StrEnum):
    ONE = "one"


class Point(msgspec.Struct):
    x: int
    y: object = None


@dataclasses.dataclass
class Pair:
    left: object
    right: object


class Unprintable:
    def __str__(self) -> str:
        raise KeyError("no")

    __repr__ = __str__


class Unreadable(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise OSError

    def __iter__(self) -> Iterator[str]:
        raise OSError

    def __len__(self) -> int:
        raise OSError


@pytest.mark.parametrize("value", [None, True, False, 0, -1, 2**63 - 1, -(2**63), 1.5, "", "text", "ä\n"])
def test_what_json_has_stays_as_it_is(value: object):
    assert fit({"a": value}) == {"a": value}
    assert type(fit(value)) is type(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({1: "a", None: "b", Colour.RED: 2}, {"1": "a", "None": "b", "Colour.RED": 2}),
        (Point(1, Point(2)), {"x": 1, "y": {"x": 2, "y": None}}),
        (Pair((1, 2), {3}), {"left": [1, 2], "right": [3]}),
        (Colour.RED, 1),
        (Word.ONE, "one"),
        (b"bytes", "<5 bytes>"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (2**63, str(2**63)),
        (np.int64(5), "5"),
        (ValueError("x"), "x"),
        ("half \ud800", "half ?"),
        ({"a \udfff": 1}, {"a ?": 1}),
        (range(3), [0, 1, 2]),
    ],
    ids=str,
)
def test_the_rest_becomes_what_json_has(value: object, expected: object):
    assert fit(value) == expected


def test_what_fails_when_it_is_looked_at_is_named_by_its_type():
    assert fit([Unprintable(), 1]) == ["<Unprintable, which can't be printed: KeyError>", 1]
    assert fit({"a": Unreadable(), "b": 2}) == {"a": "<Unreadable, which can't be read: OSError>", "b": 2}
    assert fit({Unprintable(): 1}) == {"<Unprintable, which can't be printed: KeyError>": 1}


def test_what_is_within_itself_ends():
    inner: list[Any] = [1]
    inner.append({"again": inner})
    assert fit(inner) == [1, {"again": "<itself>"}]
    shared = [1]
    assert fit([shared, shared]) == [[1], [1]]


def test_too_long_too_deep_and_too_much_is_cut_and_says_so():
    assert fit("x" * 10_000) == "x" * 4096 + "..."
    assert fit(list(range(500))) == [*range(100), "..."]
    assert fit({n: n for n in range(500)})["..."] == "more"
    deep: Any = "end"
    for _ in range(5_000):
        deep = [deep]
    assert str(fit(deep)).count("list, left out") == 1
    broad = [[list(range(100))] * 100] * 30
    assert len(encode_json(fit(broad))) < 100_000


def test_no_credential_is_sent_in_whole_or_in_part():
    assert fit({KEY: f"a {KEY} b", "c": [Point(1, KEY)]}) == {
        "[hidden]": "a [hidden] b",
        "c": [{"x": 1, "y": "[hidden]"}],
    }
    # the cut must not leave the first half of one
    assert "tml-" not in fit("x" * (4096 - 6) + KEY)
    assert "secret" not in Serializer(lambda text: text.replace(KEY, "")).text(KEY + "x" * 4093, tail=True)


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.complex_numbers()),
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner), st.builds(Pair, inner, inner)),
        max_leaves=30,
    )
)
def test_whatever_it_is_can_be_encoded(value: object):
    assert msgspec.json.decode(encode_json(fit({"value": value})))
