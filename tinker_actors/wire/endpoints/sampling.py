"""Sampling sessions and samples."""

from __future__ import annotations

from tinker_actors.types import CreateSamplingSessionRequest, CreateSamplingSessionResponse, Promise, SampleRequest
from tinker_actors.wire.api import Api
from tinker_actors.wire.headers import on_behalf_of

__all__ = ["asample", "create_sampling_session"]

# tells the server that this client takes a 429 as "wait", so that it need not queue
_ASAMPLE = (("x-tinker-sampling-backpressure", "1"), *on_behalf_of("SamplingClient.sample"))


async def create_sampling_session(api: Api, request: CreateSamplingSessionRequest, *, key: str) -> str:
    """POST /create_sampling_session; returns the sampling session's id."""
    reply = await api.call(
        "/create_sampling_session", CreateSamplingSessionResponse, request, purpose="rest", key=key
    )
    return reply.sampling_session_id


async def asample(api: Api, request: SampleRequest, *, key: str, attempt: int = 0) -> Promise:
    """POST /asample; the result is a SampleResponse."""
    return await api.call("/asample", Promise, request, purpose="sample", key=key, headers=_ASAMPLE, attempt=attempt)
