"""Training operations: their results come through ``futures``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from tinker_actors.codec.forward_backward import decode_forward_backward_request, encode_forward_backward_request
from tinker_actors.codec.json import encode_json
from tinker_actors.codec.protobuf import Buffers
from tinker_actors.errors import APIStatusError
from tinker_actors.types import CreateCustomLossRequest, ForwardBackwardRequest, OptimStepRequest, Promise
from tinker_actors.wire.api import JSON, PROTOBUF, Api, Body
from tinker_actors.wire.headers import on_behalf_of

__all__ = ["Pack", "create_custom_loss", "forward_backward", "optim_step"]

Pack: TypeAlias = Callable[[Body], Awaitable[bytes]]
"""Makes one zstd frame of a body, away from the loop."""

_FORWARD = on_behalf_of("TrainingClient.forward")
_FORWARD_BACKWARD = on_behalf_of("TrainingClient.forward_backward")
_OPTIM_STEP = on_behalf_of("TrainingClient.optim_step")


async def forward_backward(
    api: Api,
    request: ForwardBackwardRequest,
    *,
    key: str,
    data: Buffers | None = None,
    attempt: int = 0,
    pack: Pack | None = None,
) -> Promise:
    """POST /forward_backward in the form that the server takes; the result is a ForwardBackwardOutput.

    That is protobuf, as servers have it since SDK 0.25, or JSON: which one, ``api`` remembers once the server has
    taken one. Until then a server that refuses the one form by 415, or as unreadable by 422, is asked in the other.
    In JSON a forward pass alone is POST /forward.

    The arrays' own memory is sent, so they must not change meanwhile; those of a Datum are read-only. ``data`` is
    what ``codec.forward_backward.encode_data`` has made of the request's data, if that was done already.

    With ``pack``, for servers whose client configuration says ``proto_compress_fwdbwd``, a protobuf body goes out as
    the one zstd frame that ``pack`` makes of it. Where that is refused by 415 or 422 and the same is taken unpacked,
    ``api`` remembers it, too.
    """
    body = encode_forward_backward_request(request, data)
    if api.forms.prefers_json:
        try:
            return await _in_json(api, body, key, attempt)
        except APIStatusError as error:
            if not api.forms.may_be_the_form(error):
                raise
            return await _in_protobuf(api, body, request.forward_only, key, attempt, pack=pack)
    try:
        return await _in_protobuf(api, body, request.forward_only, key, attempt, pack=pack)
    except APIStatusError as error:
        if not api.forms.may_be_the_form(error):
            raise
        refused = error
    try:
        return await _in_json(api, body, key, attempt)
    except APIStatusError as other:
        # a refusal of the values sounds the same in both forms, and is better told about the usual one
        if other.status in (400, 404, 405, 415, 422):
            raise refused from None
        raise


async def optim_step(api: Api, request: OptimStepRequest, *, key: str, attempt: int = 0) -> Promise:
    """POST /optim_step; the result is an OptimStepResponse."""
    return await api.call(
        "/optim_step", Promise, request, purpose="train", key=key, headers=_OPTIM_STEP, attempt=attempt
    )


async def create_custom_loss(api: Api, request: CreateCustomLossRequest, *, key: str, attempt: int = 0) -> Promise:
    """POST /create_custom_loss; the result is a CreateCustomLossResponse."""
    return await api.call("/create_custom_loss", Promise, request, purpose="train", key=key, attempt=attempt)


async def _in_protobuf(
    api: Api, body: Body, forward_only: bool, key: str, attempt: int, *, pack: Pack | None
) -> Promise:
    async def sent(content: Body, *encoding: tuple[str, str]) -> Promise:
        reply = await api.exchange(
            "POST",
            "/forward_backward",
            content,
            purpose="train",
            key=key,
            headers=(("accept", JSON), *encoding, *(_FORWARD if forward_only else _FORWARD_BACKWARD)),
            content_type=PROTOBUF,
            attempt=attempt,
        )
        api.forms.taken(json=False)
        if pack is not None:
            api.forms.packed(taken=bool(encoding))
        return api.decode(reply, Promise)

    if pack is not None and api.forms.may_pack:
        try:
            return await sent((await pack(body),), ("content-encoding", "zstd"))
        except APIStatusError as error:
            if not api.forms.may_be_the_packing(error):
                raise
    return await sent(body)


async def _in_json(api: Api, body: Body, key: str, attempt: int) -> Promise:
    # out of the other form: its buffers are what was accepted, whatever has become of the caller's arrays
    request = decode_forward_backward_request(b"".join(body))
    path, name, method = (
        ("/forward", "forward_input", _FORWARD)
        if request.forward_only
        else ("/forward_backward", "forward_backward_input", _FORWARD_BACKWARD)
    )
    inputs: dict[str, object] = {"data": request.data, "loss_fn": request.loss_fn}
    if request.loss_fn_config:
        inputs["loss_fn_config"] = dict(request.loss_fn_config)
    content = encode_json({name: inputs, "model_id": request.model_id, "seq_id": request.seq_id})
    reply = await api.exchange(
        "POST", path, (content,), purpose="train", key=key, headers=(("accept", JSON), *method), attempt=attempt
    )
    api.forms.taken(json=True)
    return api.decode(reply, Promise)
