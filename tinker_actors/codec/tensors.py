"""Tensors in protobuf (tinker_public.Tensor): dense, or in compressed sparse rows."""

from __future__ import annotations

import math
import sys
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tinker_actors.codec.protobuf import (
    Buffers,
    as_bytes,
    as_int,
    fields,
    length_field,
    length_head,
    packed_ints,
    size_of,
    varint,
    varint_field,
)
from tinker_actors.errors import DecodeError
from tinker_actors.types import IntArray, TensorArray, TensorData

__all__ = ["ITEM_SIZES", "memory", "MOST_DIMENSIONS", "read_tensor", "tensor_buffers", "tensor_field", "widened"]

_FLOAT32, _INT64, _INT32, _BFLOAT16 = 1, 2, 3, 4
ITEM_SIZES = {_FLOAT32: 4, _INT64: 8, _INT32: 4, _BFLOAT16: 2}
"""Bytes of a number of each type of the wire."""
MOST_DIMENSIONS = 32
_DTYPE_FIELDS = {"f": varint_field(3, _FLOAT32), "i": varint_field(3, _INT64)}  # by kind; ours are these two
_LITTLE = sys.byteorder == "little"


def memory(array: NDArray[Any]) -> bytes | memoryview:
    """The numbers of ``array``, little-endian: its own memory where nobody can change it any more, else a copy."""
    if not array.size:
        return b""
    little = array if _LITTLE else array.astype(array.dtype.newbyteorder("<"))
    return little.data.cast("B") if _constant(little) else little.tobytes()


def tensor_buffers(tensor: TensorData) -> Buffers:
    """``tensor`` as the content of a message."""
    values = tensor.values
    indices = tensor.indices
    shape = b"".join(map(varint, tensor.dims))
    end = _DTYPE_FIELDS[values.dtype.kind] + length_head(4, len(shape)) + shape
    if indices is None:
        content = memory(values)
        return [length_head(1, len(content)), content, end]
    sparse: Buffers = []
    for number, array in enumerate((values, *indices), start=1):
        content = memory(array)
        sparse += (length_head(number, len(content)), content)
    return [length_head(2, size_of(sparse)), *sparse, end]


def read_tensor(data: memoryview, what: str) -> TensorData:
    """The tensor in ``data``; int32 widens to int64 and bfloat16 to float32. ``what`` begins the text of errors."""
    dense: memoryview | None = None
    sparse: memoryview | None = None
    dtype = 0
    shape: list[int] = []
    for number, value in fields(data):
        match number:
            case 1:
                dense, sparse = as_bytes(value), None
            case 2:
                dense, sparse = None, as_bytes(value)
            case 3:
                dtype = as_int(value)
            case 4:
                shape += packed_ints(value, most=MOST_DIMENSIONS)
            case _:
                pass
    if len(shape) > MOST_DIMENSIONS:
        raise DecodeError(f"{what}: a tensor of more than {MOST_DIMENSIONS} dimensions")
    if (dense is None and sparse is None) or dtype not in ITEM_SIZES:
        raise DecodeError(f"{what}: a tensor without values or of an unknown type")
    if sparse is not None:
        return _sparse(sparse, dtype, shape, what)
    assert dense is not None
    item = ITEM_SIZES[dtype]
    # in Python's own integers: a product in fixed width could wrap round to the right number
    if len(dense) % item or (shape and (min(shape) < 0 or math.prod(shape) * item != len(dense))):
        raise DecodeError(f"{what}: a tensor whose shape and bytes disagree")
    array = widened(dense, dtype)
    # an empty tensor says its type by its name only
    return TensorData(array, "int64" if array.dtype.kind == "i" else "float32", shape or None)


def widened(data: memoryview, dtype: int) -> TensorArray:
    """Bytes of numbers as float32 or int64: a view of ``data`` where they are that already."""
    match dtype:
        case 1:
            return np.frombuffer(data, "<f4").astype(np.float32, copy=False)
        case 2:
            return np.frombuffer(data, "<i8").astype(np.int64, copy=False)
        case 3:
            return np.frombuffer(data, "<i4").astype(np.int64)
        case _:  # bfloat16 is the upper half of a float32
            return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)


def _sparse(data: memoryview, dtype: int, shape: list[int], what: str) -> TensorData:
    parts = {1: memoryview(b""), 2: memoryview(b""), 3: memoryview(b"")}
    for number, value in fields(data):
        if number in parts:
            parts[number] = as_bytes(value)
    if len(parts[1]) % ITEM_SIZES[dtype] or len(parts[2]) % 8 or len(parts[3]) % 8:
        raise DecodeError(f"{what}: a sparse tensor whose bytes are not whole numbers")
    array = widened(parts[1], dtype)
    rows, columns = (cast("IntArray", widened(parts[number], _INT64)) for number in (2, 3))
    return TensorData(array, "int64" if array.dtype.kind == "i" else "float32", shape, rows, columns)


def _constant(array: object) -> bool:
    """Whether nobody can change ``array`` any more: a program may use the memory it gave for its next batch."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable and owner is not array:
            return False
        owner = cast("Any", owner).base
    return owner is None or isinstance(owner, bytes) or (isinstance(owner, memoryview) and owner.readonly)


def tensor_field(number: int, tensor: TensorData) -> Buffers:
    """A field that holds a tensor."""
    return length_field(number, *tensor_buffers(tensor))
