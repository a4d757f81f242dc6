"""ForwardBackwardOutput in protobuf, as the official SDK 0.38 reads it (tinker_public)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tinker_actors.codec.protobuf import (
    Buffers,
    as_bytes,
    as_double,
    as_int,
    as_text,
    double_field,
    fields,
    length_field,
    packed_ints,
    text_field,
    varint,
    varint_field,
)
from tinker_actors.codec.tensors import ITEM_SIZES, MOST_DIMENSIONS, widened
from tinker_actors.errors import DecodeError
from tinker_actors.types import ForwardBackwardOutput, TensorArray, TensorData

__all__ = ["decode_forward_backward_output", "encode_forward_backward_output"]

_DTYPE_NUMBERS = {"float32": 1, "int64": 2}
_FLOATS = (1, 4)
# A record without fields still counts its datums, and a tensor without numbers takes 8 bytes: this bounds how many
# objects one message makes.
_MOST_TENSORS = 1 << 18
_WIDEST = 1 << 31


def encode_forward_backward_output(output: ForwardBackwardOutput) -> bytes:
    """``output`` as one message; neighbours of the same names, types and trailing shapes share a record."""
    out: Buffers = [text_field(1, output.loss_fn_output_type)]
    group: list[Mapping[str, TensorData]] = []
    for record in output.loss_fn_outputs:
        if group and _kind(group[-1]) != _kind(record):
            out += length_field(2, *_record(output.loss_fn_output_type, group))
            group = []
        group.append(record)
    if group:
        out += length_field(2, *_record(output.loss_fn_output_type, group))
    for key, value in output.metrics.items():
        out += length_field(3, text_field(1, key), double_field(2, value))
    return b"".join(out)


def decode_forward_backward_output(data: bytes | memoryview) -> ForwardBackwardOutput:
    """The output in ``data``; bfloat16 widens to float32 and int32 to int64. Raises DecodeError."""
    output_type = ""
    records: list[dict[str, TensorData]] = []
    metrics: dict[str, float] = {}
    read = 0
    for number, value in fields(data):
        if number == 1:
            output_type = as_text(value)
        elif number == 2:
            found = _read_record(as_bytes(value), read)
            read += len(found) * max(1, len(found[0])) if found else 0
            if read > _MOST_TENSORS:
                raise DecodeError("forward_backward result: too many datums")
            records += found
        elif number == 3:
            key, metric = "", 0.0
            for inner, content in fields(as_bytes(value)):
                if inner == 1:
                    key = as_text(content)
                elif inner == 2:
                    metric = as_double(content)
            metrics[key] = metric
    return ForwardBackwardOutput(loss_fn_output_type=output_type, loss_fn_outputs=tuple(records), metrics=metrics)


def _kind(record: Mapping[str, TensorData]) -> dict[str, tuple[str, tuple[int, ...]]]:
    arrays = {key: tensor.to_numpy() for key, tensor in record.items()}
    return {key: (array.dtype.name, array.shape[1:]) for key, array in arrays.items()}


def _record(output_type: str, group: list[Mapping[str, TensorData]]) -> Buffers:
    out: Buffers = [text_field(1, output_type)]
    for key in group[0]:
        arrays = [record[key].to_numpy() for record in group]
        ends = np.cumsum([array.nbytes for array in arrays], dtype="<i8")
        offsets = np.concatenate([np.zeros(1, "<i8"), ends]).astype("<i8")
        tensor: Buffers = [
            *length_field(1, b"".join(_bytes(array) for array in arrays)),
            *length_field(2, offsets.tobytes()),
            varint_field(3, _DTYPE_NUMBERS[arrays[0].dtype.name]),
        ]
        if arrays[0].shape[1:]:
            tensor += length_field(4, b"".join(varint(n) for n in arrays[0].shape[1:]))
        out += length_field(2, text_field(1, key), *length_field(2, *tensor))
    out.append(varint_field(3, len(group)))
    return out


def _bytes(array: TensorArray) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _read_record(data: memoryview, read: int) -> list[dict[str, TensorData]]:
    columns: dict[str, list[TensorData]] = {}
    count = 0
    for number, value in fields(data):
        if number == 2:
            key, content = "", memoryview(b"")
            for inner, piece in fields(as_bytes(value)):
                if inner == 1:
                    key = as_text(piece)
                elif inner == 2:
                    content = as_bytes(piece)
            columns[key] = _read_column(content, _MOST_TENSORS - read)
            read += len(columns[key])
        elif number == 3:
            count = as_int(value)
    lengths = {len(column) for column in columns.values()}
    if count:
        lengths.add(count)
    if len(lengths) > 1 or not 0 <= count <= _MOST_TENSORS:
        raise DecodeError("forward_backward result: fields of different numbers of datums")
    length = lengths.pop() if lengths else 0
    if len(columns) == 1:  # nearly all of them
        ((key, column),) = columns.items()
        return [{key: tensor} for tensor in column]
    return [{key: column[i] for key, column in columns.items()} for i in range(length)]


def _read_column(data: memoryview, most: int) -> list[TensorData]:
    values = offsets = memoryview(b"")
    dtype, trailing = 0, list[int]()
    for number, value in fields(data):
        match number:
            case 1:
                values = as_bytes(value)
            case 2:
                offsets = as_bytes(value)
            case 3:
                dtype = as_int(value)
            case 4 if len(trailing) <= MOST_DIMENSIONS:
                trailing += packed_ints(value, most=MOST_DIMENSIONS)
            case _:
                pass
    width = math.prod(trailing)
    if dtype not in ITEM_SIZES or len(offsets) % 8 or not offsets or any(n < 1 for n in trailing):
        raise DecodeError("forward_backward result: a tensor of an unknown type or without offsets")
    if len(offsets) // 8 > most + 1 or len(trailing) > MOST_DIMENSIONS or width > _WIDEST:
        raise DecodeError("forward_backward result: too many datums, or too large ones")
    item = ITEM_SIZES[dtype]
    row = item * width
    bounds = np.frombuffer(offsets, "<i8")
    first, last = int(bounds[0]), int(bounds[-1])
    cuts, rests = np.divmod(bounds - first, row)
    ends = cuts.tolist()
    if (
        not 0 <= first <= last <= len(values)
        or first % item
        or ends != sorted(ends)  # so that all of them lie between the two
        or rests.any()
    ):
        raise DecodeError("forward_backward result: offsets that don't fit the values")
    array = widened(values[first:last], dtype)
    array.flags.writeable = False
    whole = TensorData(
        array.reshape((last - first) // row, *trailing) if trailing else array,
        "float32" if dtype in _FLOATS else "int64",  # an empty tensor says its type by its name only
    )
    return whole.rows(ends)
