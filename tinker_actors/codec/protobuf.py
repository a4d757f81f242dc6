"""The protobuf wire format: varints and fields, read with every length bounded by what is there.

Source: protocolbuffers' public encoding guide. Unknown fields are skipped; groups, long out of use, are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias

from tinker_actors.errors import DecodeError

__all__ = [
    "Buffers",
    "as_bytes",
    "as_double",
    "as_float",
    "as_int",
    "as_text",
    "double_field",
    "fields",
    "float_field",
    "length_field",
    "length_head",
    "packed_ints",
    "size_of",
    "text_field",
    "varint",
    "varint_field",
]

Buffers: TypeAlias = list[bytes | memoryview]
"""A message as a row of buffers, so that the memory of arrays is never copied into it."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_SIGN = 1 << 63
_ONE_BYTE = tuple(bytes((value,)) for value in range(128))


def varint(value: int) -> bytes:
    """``value`` as a varint; negative ones in two's complement of 64 bits."""
    if 0 <= value < 1 << 21:  # nearly all of them
        if value < 1 << 7:
            return _ONE_BYTE[value]
        if value < 1 << 14:
            return bytes((value & 0x7F | 0x80, value >> 7))
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    if value < 0:
        value += 1 << 64
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint_field(number: int, value: int) -> bytes:
    """A field that holds an integer, a boolean or an enum."""
    return varint(number << 3 | _VARINT) + varint(value)


def double_field(number: int, value: float) -> bytes:
    """A field that holds a double."""
    return varint(number << 3 | _FIXED64) + struct.pack("<d", value)


def length_field(number: int, *content: bytes | memoryview) -> Buffers:
    """A field that holds bytes or a message, given in pieces."""
    return [length_head(number, sum(map(len, content))), *content]


def length_head(number: int, length: int) -> bytes:
    """What stands before the ``length`` bytes of a field that holds bytes or a message."""
    key = number << 3 | _LENGTH
    if key < 1 << 7 and length < 1 << 21:  # nearly all of them, and in one go
        if length < 1 << 7:
            return bytes((key, length))
        if length < 1 << 14:
            return bytes((key, length & 0x7F | 0x80, length >> 7))
        return bytes((key, length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14))
    return varint(key) + varint(length)


def text_field(number: int, text: str) -> bytes:
    """A field that holds text."""
    content = text.encode()
    return length_head(number, len(content)) + content


def size_of(buffers: Buffers) -> int:
    """Bytes in all."""
    return sum(map(len, buffers))


def fields(data: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message as (number, value): integers for varints, else a view of the bytes.

    Raises DecodeError for anything that is not a message.
    """
    view = memoryview(data)
    at, end = 0, len(view)
    while at < end:
        key = view[at]
        if key < 0x80:  # nearly all of them, without another call
            at += 1
        else:
            key, at = _read_varint(view, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise DecodeError("protobuf: a field with number 0")
        if kind == _VARINT:
            value, at = _read_varint(view, at)
            yield number, value
            continue
        if kind == _LENGTH:
            length, at = _read_varint(view, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise DecodeError(f"protobuf: field {number} has the unknown wire type {kind}")
        if length > end - at:
            raise DecodeError(f"protobuf: field {number} is longer than its message")
        yield number, view[at : at + length]
        at += length


def as_int(value: int | memoryview) -> int:
    """A signed 64-bit integer."""
    if not isinstance(value, int):
        raise DecodeError("protobuf: bytes where a number is due")
    return value - (1 << 64) if value & _SIGN else value


def as_bytes(value: int | memoryview) -> memoryview:
    """Bytes or a message."""
    if isinstance(value, int):
        raise DecodeError("protobuf: a number where bytes are due")
    return value


def as_text(value: int | memoryview) -> str:
    """Text in UTF-8."""
    try:
        return str(as_bytes(value), "utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError("protobuf: text that is not UTF-8") from error


def as_float(value: int | memoryview) -> float:
    """A float of 32 bits."""
    content = as_bytes(value)
    if len(content) != 4:
        raise DecodeError("protobuf: a float that is not 4 bytes long")
    number: float = struct.unpack("<f", content)[0]
    return number


def float_field(number: int, value: float) -> bytes:
    """A field that holds a float of 32 bits."""
    return varint(number << 3 | _FIXED32) + struct.pack("<f", value)


def as_double(value: int | memoryview) -> float:
    """A double."""
    content = as_bytes(value)
    if len(content) != 8:
        raise DecodeError("protobuf: a double that is not 8 bytes long")
    number: float = struct.unpack("<d", content)[0]
    return number


def packed_ints(value: int | memoryview, *, most: int) -> list[int]:
    """A repeated integer field, packed or not, of at most ``most`` numbers."""
    if isinstance(value, int):
        return [as_int(value)]
    out: list[int] = []
    at = 0
    while at < len(value):
        number, at = _read_varint(value, at)
        out.append(as_int(number))
        if len(out) > most:
            raise DecodeError(f"protobuf: more than {most} numbers in a row")
    return out


def _read_varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    end = min(len(view), at + 10)
    while at < end:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
    raise DecodeError("protobuf: a varint without end")
