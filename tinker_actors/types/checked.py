"""Structs whose fields are checked against their annotations when they are made, by whomever."""

from __future__ import annotations

import datetime
from functools import cache
from typing import Any

import msgspec

from tinker_actors.errors import InvalidInput

__all__ = ["Checked", "Timestamp"]

Timestamp = datetime.datetime
"""A point in time, kept with its offset. Given as text, it is ISO 8601."""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """Base of values that are made rarely: lists become tuples, and InvalidInput names a field of another type."""

    def __post_init__(self) -> None:
        for name, kind in _fields(type(self)):
            given = getattr(self, name)
            try:
                checked = msgspec.convert(given, kind)
            except msgspec.ValidationError as error:
                if isinstance(error.__cause__, InvalidInput):
                    raise error.__cause__ from None
                raise InvalidInput(f"{type(self).__name__}.{name}", _lower(str(error)), _cure(kind)) from None
            if isinstance(checked, datetime.datetime) and checked.tzinfo is None:
                checked = checked.replace(tzinfo=datetime.UTC)  # what servers without offsets mean
            msgspec.structs.force_setattr(self, name, checked)


@cache
def _fields(kind: type[Checked]) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, field.type) for field in msgspec.structs.fields(kind))


def _lower(problem: str) -> str:
    return problem[:1].lower() + problem[1:]


def _cure(kind: Any) -> str:
    name = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    return f"Give a value of type {name.replace('typing.', '').replace('tinker_actors.types.', '')}"
