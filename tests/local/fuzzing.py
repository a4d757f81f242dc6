"""Requests that nobody would send: drawn from the server's own OpenAPI document, with ids that it knows."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import msgspec
from hypothesis import strategies as st

from tinker_actors.local.openapi import openapi

__all__ = ["Call", "Ids", "calls", "mutated"]

DOCUMENT: Final[Any] = msgspec.json.decode(msgspec.json.encode(openapi()))
COMPONENTS: Final[Mapping[str, Any]] = DOCUMENT["components"]["schemas"]
NEVER: Final = frozenset({("delete", "/api/v1/auth/apikey/me")})
"""What would leave nothing to ask for: the key itself."""

Ids = Mapping[str, Sequence[str]]
"""What the server knows, by the name of the field that it goes into."""


class Call(msgspec.Struct, frozen=True):
    """One request."""

    method: str
    path: str
    body: Any


JUNK: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.lists(st.integers(-3, 3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
NUMBERS: Final = st.one_of(st.integers(-2, 12), st.sampled_from([2**31, 2**63, 2**64, -(2**63) - 1]))
FLOATS: Final = st.one_of(st.floats(-2.0, 2.0), st.sampled_from([1e300, -1e300, 1e-320, 1e39]))
TEXTS: Final = st.one_of(
    st.sampled_from(
        ["", "a", "cross_entropy", "ppo", "adamw", "snapshot", "2000-01-01T00:00:00Z", "float32", "\x00"]
    ),
    st.text(max_size=12),
)
WORDS: Final = st.text(string.ascii_letters + string.digits + "-_.:%/ é", max_size=12)


def calls(ids: Ids, sound: Sequence[Call] = ()) -> st.SearchStrategy[list[Call]]:
    """Some requests, one after another: from the document, or ``sound`` ones changed a little."""
    known = [
        (method, path, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
        if (method, path) not in NEVER
    ]
    drawn = st.sampled_from(known).flatmap(lambda each: _call(*each, ids))
    either = st.one_of(drawn, st.sampled_from(sound).flatmap(_changed)) if sound else drawn
    return st.lists(either, min_size=1, max_size=12)


@st.composite
def mutated(draw: st.DrawFn, body: bytes) -> bytes:
    """``body`` with some bytes changed, lost, repeated or put in."""
    content = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        match draw(st.sampled_from(["flip", "cut", "end", "insert", "repeat"])):
            case "flip" if at < len(content):
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del content[at : at + draw(st.integers(1, 8))]
            case "end":
                del content[at:]
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=6))
            case _:
                content[at:at] = content[at : at + draw(st.integers(1, 40))]
    return bytes(content)


@st.composite
def _changed(draw: st.DrawFn, call: Call) -> Call:
    body = msgspec.json.decode(msgspec.json.encode(call.body))
    for _ in range(draw(st.integers(0, 2))):
        places = list(_places(body))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        if draw(st.integers(0, 3)) == 0:
            del holder[key]
        else:
            holder[key] = draw(st.one_of(NUMBERS, FLOATS, TEXTS, JUNK))
    return Call(call.method, call.path, body)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every key and index within ``value``, with what holds it."""
    keys: Any = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


@st.composite
def _call(draw: st.DrawFn, method: str, path: str, operation: Any, ids: Ids) -> Call:
    query: list[str] = []
    for parameter in operation["parameters"]:
        name = parameter["name"]
        if parameter["in"] == "path":
            path = path.replace(f"{{{name}}}", _quoted(draw(_text(name, ids) if draw(_mostly()) else WORDS)))
        elif parameter["required"] or draw(st.booleans()):
            value = draw(_value(parameter["schema"], name, ids, 3))
            query.append(f"{name}={_quoted(str(value))}")
    body: Any = None
    if "requestBody" in operation:
        body = draw(_value(operation["requestBody"]["content"]["application/json"]["schema"], "", ids, 6))
    return Call(method.upper(), path.removeprefix("/api/v1") + ("?" + "&".join(query) if query else ""), body)


def _mostly() -> st.SearchStrategy[bool]:
    return st.sampled_from([True] * 15 + [False])


def _quoted(text: str) -> str:
    return quote(text, safe="/:") or "x"


def _text(name: str, ids: Ids) -> st.SearchStrategy[str]:
    return st.sampled_from(ids[name]) if name in ids else TEXTS


@st.composite
def _value(draw: st.DrawFn, schema: Any, name: str, ids: Ids, depth: int) -> Any:
    """What the schema says, and now and then what it does not."""
    if depth == 0 or not draw(_mostly()):
        return draw(JUNK)
    if "$ref" in schema:
        return draw(_value(COMPONENTS[schema["$ref"].rpartition("/")[2]], name, ids, depth))
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return draw(_value(draw(st.sampled_from(schema[union])), name, ids, depth))
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    match schema.get("type"):
        case "object":
            return draw(_object(schema, ids, depth))
        case "array":
            items = schema.get("items")
            return draw(st.lists(_value(items or {}, name, ids, depth - 1), max_size=4))
        case "string":
            return draw(_text(name, ids))
        case "integer":
            return draw(NUMBERS)
        case "number":
            return draw(FLOATS)
        case "boolean":
            return draw(st.booleans())
        case "null":
            return None
        case _:
            return draw(JUNK)


@st.composite
def _object(draw: st.DrawFn, schema: Any, ids: Ids, depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    required = schema.get("required", ())
    for key, kind in schema.get("properties", {}).items():
        if (key in required and draw(_mostly())) or draw(st.booleans()):
            made[key] = draw(_value(kind, key, ids, depth - 1))
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        for key in draw(st.lists(TEXTS, max_size=2)):
            made[key] = draw(_value(more, key, ids, depth - 1))
    elif draw(st.integers(0, 9)) == 0:
        made[draw(TEXTS)] = draw(JUNK)
    return made
