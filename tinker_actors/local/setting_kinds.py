"""The kinds of values that settings take: what is of another kind is refused when it is given.

A str where keys are due would else be read letter by letter, each of them a key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, cast, get_args

import msgspec

from tinker_actors.checks import flag, integer, number, text
from tinker_actors.errors import InvalidInput
from tinker_actors.server_class import ServerClass

__all__ = ["check_kinds"]


def check_kinds(settings: msgspec.Struct) -> None:
    """Each field is of its annotated kind; numbers become Python's own. Raises InvalidInput, which shows no key."""
    for field in msgspec.structs.fields(settings):
        value, kind = getattr(settings, field.name), field.type
        if isinstance(kind, UnionType):
            if value is None:
                continue
            kind = next(each for each in get_args(kind) if each is not NoneType)
        msgspec.structs.force_setattr(settings, field.name, _CHECKS[kind](field.name, value))


def _integer(field: str, value: Any) -> int:
    return integer(field, value, "Use a whole number")


def _number(field: str, value: Any) -> float:
    return number(field, value, "Use a number")


def _text(field: str, value: Any) -> str:
    return text(field, value, "Use a string", empty=True)


def _path(field: str, value: Any) -> Path:
    if not isinstance(value, Path):
        raise InvalidInput(field, f"is of type {type(value).__name__}", "Use a pathlib.Path")
    return value


def _strings(field: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, (tuple, list)):
        raise InvalidInput(field, f"is of type {type(value).__name__}", "Use a tuple of strings")
    for index, each in enumerate(cast("tuple[Any, ...] | list[Any]", value)):
        if not isinstance(each, str):
            raise InvalidInput(f"{field}[{index}]", f"is of type {type(each).__name__}", "Use a string")
    return tuple(cast("tuple[str, ...] | list[str]", value))


def _class(field: str, value: Any) -> ServerClass:
    try:
        return ServerClass(value)
    except ValueError:
        raise InvalidInput(field, f"{value!r:.60} is no class of servers", "Use dedup, ordered or none") from None


def _mapping(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Mapping[str, Any]]:
    def checked(field: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise InvalidInput(field, f"is of type {type(value).__name__}", "Use a dict")
        items = cast("Mapping[Any, Any]", value).items()
        return {_text(f"{field}'s names", name): check(f"{field}[{name!r}]", each) for name, each in items}

    return checked


_CHECKS: Mapping[Any, Callable[[str, Any], Any]] = {
    bool: flag,
    int: _integer,
    float: _number,
    str: _text,
    Path: _path,
    ServerClass: _class,
    tuple[str, ...]: _strings,
    Mapping[str, Path]: _mapping(_path),
    Mapping[str, tuple[str, ...]]: _mapping(_strings),
}
