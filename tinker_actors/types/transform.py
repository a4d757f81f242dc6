"""Values to plain dicts and lists with the names of the wire, null and left out kept apart."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Literal, TypeAlias, cast

import msgspec

from tinker_actors.errors import InvalidInput
from tinker_actors.types.not_given import is_given

__all__ = ["Formatter", "iso8601", "transform"]

Formatter: TypeAlias = Literal["iso8601"] | Callable[[Any], Any]
_DEEPEST = 100


def transform(
    value: Any,
    *,
    aliases: Mapping[str, str] | None = None,
    formats: Mapping[str, Formatter] | None = None,
    drop_none: bool = False,
) -> Any:
    """``value`` (structs, mappings, lists and single values within each other) as dicts and lists.

    Entries that are NOT_GIVEN or OMIT are left out; None stays, as null, unless ``drop_none``. False, 0 and empty
    ones stay. ``aliases`` gives keys their names on the wire, and ``formats`` says for keys (by the names that they
    have here) how their values are written: ``"iso8601"`` or a function. Both hold at every depth. Raises
    InvalidInput for keys that are not strings and for a value that holds itself.
    """
    return _transformed(value, aliases or {}, formats or {}, drop_none, 0)


def iso8601(value: Any) -> Any:
    """A datetime (UTC where it has no offset) or a date as text; anything else as it is."""
    if isinstance(value, datetime.datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=datetime.UTC)
        return aware.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, datetime.date) else value


def _transformed(
    value: Any, aliases: Mapping[str, str], formats: Mapping[str, Formatter], drop_none: bool, depth: int
) -> Any:
    if depth > _DEEPEST:
        raise InvalidInput("value", f"is nested more than {_DEEPEST} deep", "Give values that don't hold themselves")
    if isinstance(value, msgspec.Struct):
        kind = type(value).__struct_config__
        items: dict[Any, Any] = {} if kind.tag is None else {kind.tag_field or "type": kind.tag}
        items |= {name: getattr(value, name) for name in value.__struct_fields__}
    elif isinstance(value, Mapping):
        items = dict(cast("Mapping[Any, Any]", value))
    elif isinstance(value, list | tuple):
        row = cast("list[Any]", value)
        return [_transformed(item, aliases, formats, drop_none, depth + 1) for item in row if is_given(item)]
    else:
        return value.value if isinstance(value, Enum) and is_given(value) else value
    out: dict[str, Any] = {}
    for key, item in items.items():
        if not isinstance(key, str):
            raise InvalidInput("keys", f"{key!r} is not a string", "Give names as keys")
        if not is_given(item) or (drop_none and item is None):
            continue
        formatter = formats.get(key)
        if formatter is not None and item is not None:
            formatted = iso8601(item) if formatter == "iso8601" else formatter(item)
        else:
            formatted = item
        out[aliases.get(key, key)] = _transformed(formatted, aliases, formats, drop_none, depth + 1)
    return out
