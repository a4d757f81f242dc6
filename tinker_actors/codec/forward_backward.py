"""ForwardBackwardRequest in protobuf, as the official SDK 0.38 has it (tinker_public): text, dense tensors."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, cast

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
    length_head,
    packed_ints,
    text_field,
    varint,
    varint_field,
)
from tinker_actors.errors import DecodeError, InvalidInput
from tinker_actors.types import (
    Datum,
    EncodedTextChunk,
    ForwardBackwardRequest,
    ModelInput,
    TensorArray,
    TensorData,
    TokenArray,
)

__all__ = ["decode_forward_backward_request", "encode_data", "encode_forward_backward_request"]

_DTYPE_NUMBERS = {"f": 1, "i": 2}  # by kind: tensors are float32 or int64
_LITTLE = sys.byteorder == "little"


def encode_data(data: Sequence[Datum]) -> Buffers:
    """The part of a request that is large and the same wherever it is sent, as a row of buffers.

    They are the arrays' own memory where nobody can change it any more, and copies where somebody can.
    """
    out: Buffers = []
    for datum in data:
        out += length_field(3, *_datum(datum))
    return out


def encode_forward_backward_request(
    request: ForwardBackwardRequest, data: Buffers | None = None
) -> tuple[bytes | memoryview, ...]:
    """``request`` as a row of buffers; those of arrays are their own memory where it is constant.

    ``data`` is what ``encode_data`` has made of its data, if that was done already.
    """
    out: Buffers = [text_field(1, request.model_id), varint_field(2, request.seq_id)]
    out += encode_data(request.data) if data is None else data
    out.append(text_field(4, request.loss_fn))
    for key, value in request.loss_fn_config.items():
        name = text_field(1, key)
        if isinstance(value, str):
            out += length_field(7, name, *length_field(2, text_field(2, value)))
        else:
            out += length_field(5, name, double_field(2, value))
            out += length_field(7, name, *length_field(2, double_field(1, value)))
    if request.forward_only:
        out.append(varint_field(6, 1))
    return tuple(out)


def decode_forward_backward_request(data: bytes | memoryview) -> ForwardBackwardRequest:
    """The request in ``data``. Raises DecodeError; a seq_id of 0 means that there is none."""
    model_id = loss_fn = ""
    seq_id = 0
    forward_only = False
    data_out: list[Datum] = []
    old: dict[str, float | str] = {}
    new: dict[str, float | str] = {}
    try:
        for number, value in fields(data):
            match number:
                case 1:
                    model_id = as_text(value)
                case 2:
                    seq_id = as_int(value)
                case 3:
                    data_out.append(_read_datum(as_bytes(value)))
                case 4:
                    loss_fn = as_text(value)
                case 5:
                    key, content = _entry(value)
                    old[key] = as_double(content) if len(content) else 0.0
                case 6:
                    forward_only = bool(as_int(value))
                case 7:
                    key, content = _entry(value)
                    new[key] = _config_value(content)
                case _:
                    pass
    except InvalidInput as error:
        raise DecodeError(f"forward_backward: {error}") from error
    return ForwardBackwardRequest(
        model_id=model_id,
        seq_id=seq_id,
        data=tuple(data_out),
        loss_fn=loss_fn,
        loss_fn_config=new or old,
        forward_only=forward_only,
    )


def _datum(datum: Datum) -> Buffers:
    out: Buffers = []
    for chunk in datum.model_input.chunks:
        tokens = _memory(chunk.array)
        head = length_head(1, len(tokens))
        head = length_head(1, len(head) + len(tokens)) + head
        out += (length_head(1, len(head) + len(tokens)) + head, tokens)
    for key, tensor in datum.tensors().items():
        array = tensor.to_numpy()
        values = _memory(array)
        shape = b"".join(map(varint, array.shape))
        head = length_head(1, len(values))
        tail = varint_field(3, _DTYPE_NUMBERS[array.dtype.kind]) + length_head(4, len(shape)) + shape
        head = text_field(1, key) + length_head(2, len(head) + len(values) + len(tail)) + head
        out += (length_head(2, len(head) + len(values) + len(tail)) + head, values, tail)
    return out


def _memory(array: TokenArray | TensorArray) -> bytes | memoryview:
    if not array.size:
        return b""
    little = array if _LITTLE else array.astype(array.dtype.newbyteorder("<"))
    return little.data.cast("B") if _constant(little) else little.tobytes()


def _constant(array: object) -> bool:
    """Whether nobody can change ``array`` any more: a program may use the memory it gave for its next batch."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable and owner is not array:
            return False
        owner = cast("Any", owner).base
    return owner is None or isinstance(owner, bytes) or (isinstance(owner, memoryview) and owner.readonly)


def _read_datum(data: memoryview) -> Datum:
    chunks: list[EncodedTextChunk] = []
    tensors: dict[str, TensorData] = {}
    for number, value in fields(data):
        if number == 1:
            chunks.append(_read_chunk(as_bytes(value)))
        elif number == 2:
            key, content = _entry(value)
            tensors[key] = _read_tensor(content)
    return Datum(ModelInput(chunks=tuple(chunks)), tensors)


def _read_chunk(data: memoryview) -> EncodedTextChunk:
    for number, value in fields(data):
        if number != 1:
            raise DecodeError(f"forward_backward: chunks of kind {number} are not taken, only encoded text")
        tokens: memoryview = memoryview(b"")
        for inner, content in fields(as_bytes(value)):
            if inner == 1:
                tokens = as_bytes(content)
        if len(tokens) % 4:
            raise DecodeError("forward_backward: tokens that are not whole int32 numbers")
        return EncodedTextChunk(np.frombuffer(tokens, "<i4"))
    raise DecodeError("forward_backward: an empty chunk")


def _read_tensor(data: memoryview) -> TensorData:
    dense: memoryview | None = None
    dtype = 0
    shape: list[int] = []
    for number, value in fields(data):
        match number:
            case 1:
                dense = as_bytes(value)
            case 2:
                raise DecodeError("forward_backward: sparse tensors are not taken")
            case 3:
                dtype = as_int(value)
            case 4:
                shape += packed_ints(value)
            case _:
                pass
    if dense is None or dtype not in (1, 2):
        raise DecodeError("forward_backward: a tensor without values or of an unknown type")
    item = 4 if dtype == 1 else 8
    # in Python's own integers: a product in fixed width could wrap round to the right number
    if len(dense) % item or (shape and (min(shape) < 0 or math.prod(shape) * item != len(dense))):
        raise DecodeError("forward_backward: a tensor whose shape and bytes disagree")
    array = np.frombuffer(dense, "<f4" if dtype == 1 else "<i8")
    if dtype == 1:
        return TensorData(array, "float32", shape or None)
    return TensorData(array, "int64", shape or None)


def _entry(value: int | memoryview) -> tuple[str, memoryview]:
    key, content = "", memoryview(b"")
    for number, inner in fields(as_bytes(value)):
        if number == 1:
            key = as_text(inner)
        elif number == 2:
            content = as_bytes(inner)
    return key, content


def _config_value(data: memoryview) -> float | str:
    for number, value in fields(data):
        if number == 1:
            return as_double(value)
        if number == 2:
            return as_text(value)
    raise DecodeError("forward_backward: a configuration entry without value")
