"""Training operations: their results come through ``futures``."""

from __future__ import annotations

from tinker_actors.codec.forward_backward import encode_forward_backward_request
from tinker_actors.codec.protobuf import Buffers
from tinker_actors.types import ForwardBackwardRequest, OptimStepRequest, Promise
from tinker_actors.wire.api import JSON, PROTOBUF, Api

__all__ = ["forward_backward", "optim_step"]


async def forward_backward(
    api: Api, request: ForwardBackwardRequest, *, key: str, data: Buffers | None = None
) -> Promise:
    """POST /forward_backward in protobuf; the result is a ForwardBackwardOutput.

    The arrays' own memory is sent, so they must not change meanwhile; those of a Datum are read-only. ``data`` is
    what ``codec.forward_backward.encode_data`` has made of the request's data, if that was done already.
    """
    reply = await api.exchange(
        "POST",
        "/forward_backward",
        encode_forward_backward_request(request, data),
        purpose="train",
        key=key,
        headers=(("accept", JSON),),
        content_type=PROTOBUF,
    )
    return api.decode(reply, Promise)


async def optim_step(api: Api, request: OptimStepRequest, *, key: str) -> Promise:
    """POST /optim_step; the result is an OptimStepResponse."""
    return await api.call("/optim_step", Promise, request, purpose="train", key=key)
