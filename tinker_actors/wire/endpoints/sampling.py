"""Sampling sessions and samples."""

from __future__ import annotations

from tinker_actors.types import CreateSamplingSessionRequest, CreateSamplingSessionResponse, Promise, SampleRequest
from tinker_actors.wire.api import Api

__all__ = ["asample", "create_sampling_session"]

# tells the server that this client takes a 429 as "wait", so that it need not queue
_BACKPRESSURE = (("x-tinker-sampling-backpressure", "1"),)


async def create_sampling_session(api: Api, request: CreateSamplingSessionRequest, *, key: str) -> str:
    """POST /create_sampling_session; returns the sampling session's id."""
    reply = await api.call(
        "/create_sampling_session", CreateSamplingSessionResponse, request, purpose="rest", key=key
    )
    return reply.sampling_session_id


async def asample(api: Api, request: SampleRequest, *, key: str) -> Promise:
    """POST /asample; the result is a SampleResponse."""
    return await api.call("/asample", Promise, request, purpose="sample", key=key, headers=_BACKPRESSURE)
