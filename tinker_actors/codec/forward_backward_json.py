"""forward_backward and forward in JSON, as the official SDK up to 0.24 sends them and JSON-only servers take them."""

from __future__ import annotations

from typing import Any

import msgspec

from tinker_actors.codec.json import decode_json, encode_json
from tinker_actors.codec.json_forms import DatumForm, datum_of_form
from tinker_actors.errors import DecodeError, InvalidInput
from tinker_actors.types import ForwardBackwardRequest

__all__ = ["RequestForm", "decode_forward_backward_json", "encode_forward_backward_json"]


class InputForm(msgspec.Struct):
    """What both of the requests hold under a key of their own."""

    data: list[DatumForm]
    loss_fn: str
    loss_fn_config: dict[str, float | str] | None = None


class RequestForm(msgspec.Struct):
    """/forward_backward has the one key, /forward the other."""

    model_id: str
    seq_id: int | None = None
    forward_backward_input: InputForm | None = None
    forward_input: InputForm | None = None


def encode_forward_backward_json(request: ForwardBackwardRequest) -> bytes:
    """The body for /forward_backward or, where ``forward_only``, for /forward.

    Raises InvalidInput for numbers that are not finite, which JSON can't carry.
    """
    content: dict[str, Any] = {"data": request.data, "loss_fn": request.loss_fn}
    if request.loss_fn_config:
        content["loss_fn_config"] = request.loss_fn_config
    key = "forward_input" if request.forward_only else "forward_backward_input"
    return encode_json({key: content, "model_id": request.model_id, "seq_id": request.seq_id})


def decode_forward_backward_json(data: bytes | memoryview) -> ForwardBackwardRequest:
    """The request in ``data``, of either kind; a seq_id of 0 means that there is none. Raises DecodeError."""
    form = decode_json(data, RequestForm)
    forward_only = form.forward_backward_input is None
    content = form.forward_input if forward_only else form.forward_backward_input
    if content is None:
        raise DecodeError("forward_backward: neither forward_backward_input nor forward_input")
    try:
        datums = tuple(datum_of_form(datum) for datum in content.data)
    except InvalidInput as error:
        raise DecodeError(f"forward_backward: {error.field} {error.problem}") from error
    return ForwardBackwardRequest(
        model_id=form.model_id,
        seq_id=form.seq_id or 0,
        data=datums,
        loss_fn=content.loss_fn,
        loss_fn_config=content.loss_fn_config or {},
        forward_only=forward_only,
    )
