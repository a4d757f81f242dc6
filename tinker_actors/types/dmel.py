"""Audio within a model's input: a serialized tensor container, whose header gives its length."""

from __future__ import annotations

from typing import Any

import msgspec

from tinker_actors.errors import InvalidInput

__all__ = ["DmelChunk"]

_CONSTANT = 254
_LAST_DTYPE = 7
_MOST_DIMENSIONS = 64


class DmelChunk(msgspec.Struct, frozen=True, tag="dmel"):
    """Audio as dmel tokens. ``dmel`` is a tensor container: its first dimension is the length in tokens."""

    dmel: bytes

    def __post_init__(self) -> None:
        given: Any = self.dmel
        if given.__class__ not in (bytes, bytearray, memoryview):
            raise InvalidInput("DmelChunk.dmel", "is not bytes", _CURE)
        msgspec.structs.force_setattr(self, "dmel", bytes(given))
        if not _shape(self.dmel):
            raise InvalidInput("DmelChunk.dmel", "is a tensor without dimensions", _CURE)

    @property
    def shape(self) -> tuple[int, ...]:
        """What the container's header says."""
        return _shape(self.dmel)

    @property
    def length(self) -> int:
        """Number of tokens: the first dimension."""
        return self.shape[0]

    def __repr__(self) -> str:
        return f"DmelChunk(shape={list(self.shape)}, {len(self.dmel)} bytes)"


_CURE = "Give a serialized tensor container"


def _shape(data: bytes) -> tuple[int, ...]:
    at = 1 if data[:1] == bytes((_CONSTANT,)) else 0
    if len(data) <= at:
        raise InvalidInput("DmelChunk.dmel", "ends within its header", _CURE)
    if data[at] > _LAST_DTYPE:
        raise InvalidInput("DmelChunk.dmel", f"is of the unknown type {data[at]}", _CURE)
    count, at = _varint(data, at + 1)
    if count > _MOST_DIMENSIONS:
        raise InvalidInput("DmelChunk.dmel", f"has {count} dimensions", _CURE)
    shape: list[int] = []
    for _ in range(count):
        size, at = _varint(data, at)
        shape.append(size)
    return tuple(shape)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift <= 63:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise InvalidInput("DmelChunk.dmel", "ends within its header", _CURE)
