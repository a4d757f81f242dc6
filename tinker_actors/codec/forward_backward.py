"""ForwardBackwardRequest in protobuf, as the official SDK 0.38 has it (tinker_public)."""

from __future__ import annotations

from tinker_actors.checks import integer
from tinker_actors.codec.datums import Reader, encode_data, map_entry
from tinker_actors.codec.protobuf import (
    Buffers,
    as_bytes,
    as_double,
    as_int,
    as_text,
    double_field,
    fields,
    length_field,
    text_field,
    varint_field,
)
from tinker_actors.errors import DecodeError
from tinker_actors.types import Datum, ForwardBackwardRequest

__all__ = ["decode_forward_backward_request", "encode_data", "encode_forward_backward_request"]

_MOST_SETTINGS = 1024


def encode_forward_backward_request(
    request: ForwardBackwardRequest, data: Buffers | None = None
) -> tuple[bytes | memoryview, ...]:
    """``request`` as a row of buffers; those of arrays are their own memory where it is constant.

    ``data`` is what ``encode_data`` has made of its data, if that was done already. Raises InvalidInput for a seq_id
    beyond 32 bits.
    """
    integer("seq_id", request.seq_id, "Number operations from 1", low=-(2**31), high=2**31 - 1)
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
    reader = Reader("forward_backward")
    old: dict[str, float | str] = {}
    new: dict[str, float | str] = {}
    for number, value in fields(data):
        match number:
            case 1:
                model_id = as_text(value)
            case 2:
                seq_id = as_int(value)
            case 3:
                data_out.append(reader.datum(as_bytes(value)))
            case 4:
                loss_fn = as_text(value)
            case 5:
                key, content = map_entry(value)
                old[key] = as_double(content) if len(content) else 0.0
            case 6:
                forward_only = bool(as_int(value))
            case 7:
                key, content = map_entry(value)
                new[key] = _config_value(content)
            case _:
                pass
        if len(old) > _MOST_SETTINGS or len(new) > _MOST_SETTINGS:
            raise DecodeError(f"forward_backward: more than {_MOST_SETTINGS} settings")
    return ForwardBackwardRequest(
        model_id=model_id,
        seq_id=seq_id,
        data=tuple(data_out),
        loss_fn=loss_fn,
        loss_fn_config=new or old,
        forward_only=forward_only,
    )


def _config_value(data: memoryview) -> float | str:
    for number, value in fields(data):
        if number == 1:
            return as_double(value)
        if number == 2:
            return as_text(value)
    raise DecodeError("forward_backward: a configuration entry without value")
