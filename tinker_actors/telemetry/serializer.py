"""What an event may carry: values as JSON has them, without credentials and within bounds."""

from __future__ import annotations

import dataclasses
import math
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from itertools import islice
from typing import Any, TypeAlias, cast, final

import msgspec

__all__ = ["LONGEST_TRACEBACK", "Redact", "Serializer", "platform_name"]

Redact: TypeAlias = Callable[[str], str]
"""A text without the credentials in it."""

LONGEST_TRACEBACK = 16_384
_LONGEST_TEXT = 4_096
_MOST_READ = 1_000_000  # characters of one text that are looked at at all
_MOST_ITEMS = 100
_MOST_VALUES = 1_000
_DEEPEST = 8
_INT64_END = 2**63


@final
class Serializer:
    """Makes values fit to be sent.

    Text, numbers, booleans and None stay as they are; structs, dataclasses and mappings become objects with text for
    keys, sequences and sets become lists, enumerations their values, all else its printed form. What is too long, too
    deep, too much or within itself is cut short and says so, and a value that can't even be printed is named by its
    type. Never raises.
    """

    def __init__(self, redact: Redact) -> None:
        self._redact = redact

    def text(self, given: object, *, longest: int = _LONGEST_TEXT, tail: bool = False) -> str:
        """``given`` as text that JSON can carry; of a longer one the start, or with ``tail`` the end."""
        try:
            shown = given if type(given) is str else str(given)
        except Exception as error:  # noqa: BLE001  # whatever a user's __str__ raises
            return f"<{type(given).__name__}, which can't be printed: {type(error).__name__}>"
        # half a surrogate pair is nothing that can be sent; and no credential may be cut before it is looked for
        shown = (shown[-_MOST_READ:] if tail else shown[:_MOST_READ]).encode("utf-8", "replace").decode()
        shown = self._redact(shown)
        if len(shown) <= longest:
            return shown
        return f"...{shown[-longest:]}" if tail else f"{shown[:longest]}..."

    def data(self, given: object) -> Any:
        """``given`` as JSON has it."""
        return _Walk(self).value(given, ())


@final
class _Walk:
    """One value and all in it."""

    def __init__(self, serializer: Serializer) -> None:
        self._serializer = serializer
        self._left = _MOST_VALUES

    def value(self, given: object, within: tuple[int, ...]) -> Any:
        self._left -= 1
        try:
            return self._value(given, within)
        except Exception as error:  # noqa: BLE001  # whatever a user's own types do when they are looked at
            return f"<{type(given).__name__}, which can't be read: {type(error).__name__}>"

    def _value(self, given: object, within: tuple[int, ...]) -> Any:
        text = self._serializer.text
        if given is None or isinstance(given, bool):
            return given
        if isinstance(given, Enum):
            return self.value(given.value, within)
        if isinstance(given, str):
            return text(given)
        if isinstance(given, int):
            return int(given) if -_INT64_END <= given < _INT64_END else text(given)
        if isinstance(given, float):
            return float(given) if math.isfinite(given) else text(float(given))  # JSON has no NaN
        if isinstance(given, bytes | bytearray):
            return f"<{len(given)} bytes>"
        parts = _parts(given)
        if parts is None:
            return text(given)
        if id(given) in within:
            return "<itself>"
        if len(within) >= _DEEPEST or self._left <= 0:
            return f"<{type(given).__name__}, left out>"
        inner = (*within, id(given))
        items = list(islice(iter(parts), _MOST_ITEMS + 1))
        kept, more = items[:_MOST_ITEMS], len(items) > _MOST_ITEMS
        if isinstance(parts, Mapping):
            named = cast("Mapping[Any, Any]", parts)
            out: dict[str, Any] = {text(name): self.value(named[name], inner) for name in kept}
            return out | ({"...": "more"} if more else {})
        return [self.value(item, inner) for item in kept] + (["..."] if more else [])


def _parts(given: object) -> Mapping[Any, Any] | Iterable[Any] | None:
    """What ``given`` consists of; None for what is printed as a whole."""
    if isinstance(given, msgspec.Struct):
        return {name: getattr(given, name) for name in given.__struct_fields__}
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        return {field.name: getattr(given, field.name) for field in dataclasses.fields(given)}
    if isinstance(given, Mapping | Sequence | AbstractSet):
        return cast("Mapping[Any, Any] | Iterable[Any]", given)
    return None


def platform_name() -> str:
    """The operating system, as "Linux"."""
    return platform.system() or sys.platform
