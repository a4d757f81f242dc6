"""Sampling sessions and samples."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tinker_actors.codec.json import encode_json
from tinker_actors.types import (
    CreateSamplingSessionRequest,
    CreateSamplingSessionResponse,
    JoinSamplingSessionRequest,
    JoinSamplingSessionResponse,
    Promise,
    SampleRequest,
)
from tinker_actors.wire.api import JSON, Api
from tinker_actors.wire.headers import on_behalf_of
from tinker_actors.wire.sample_stream import SampleStream

__all__ = ["asample", "create_sampling_session", "join_sampling_session", "stream_sample"]

# tells the server that this client takes a 429 as "wait", so that it need not queue
_ASAMPLE = (("x-tinker-sampling-backpressure", "1"), *on_behalf_of("SamplingClient.sample"))


async def create_sampling_session(
    api: Api, request: CreateSamplingSessionRequest, *, key: str, attempt: int = 0
) -> CreateSamplingSessionResponse | Promise:
    """POST /create_sampling_session: the sampling session or, from some servers, a promise of it."""
    reply = await api.exchange(
        "POST",
        "/create_sampling_session",
        (encode_json(request),),
        purpose="rest",
        key=key,
        headers=(("accept", JSON),),
        attempt=attempt,
    )
    if b'"sampling_session_id"' not in reply.body and b'"request_id"' in reply.body:
        return api.decode(reply, Promise)
    return api.decode(reply, CreateSamplingSessionResponse)


async def asample(api: Api, request: SampleRequest, *, key: str, attempt: int = 0) -> Promise:
    """POST /asample; the result is a SampleResponse."""
    return await api.call("/asample", Promise, request, purpose="sample", key=key, headers=_ASAMPLE, attempt=attempt)


async def join_sampling_session(api: Api, sampling_session_id: str, *, key: str) -> int:
    """POST /join_sampling_session; returns this client's number among those of the sampling session."""
    request = JoinSamplingSessionRequest(sampling_session_id=sampling_session_id)
    reply = await api.call("/join_sampling_session", JoinSamplingSessionResponse, request, purpose="rest", key=key)
    return reply.client_counter


@asynccontextmanager
async def stream_sample(
    api: Api, request: SampleRequest, *, key: str, timeout: float | None = None
) -> AsyncGenerator[SampleStream]:
    """POST /stream_sample, at servers that have it: the sample's tokens as they are made.

    ``timeout`` in seconds is for the whole sample. Leaving the block gives up the rest.
    """
    headers = (("accept", "text/event-stream"), *on_behalf_of("SamplingClient.sample_stream"))
    async with api.open(
        "POST", "/stream_sample", request, purpose="sample", key=key, timeout=timeout, headers=headers
    ) as reply:
        yield SampleStream(reply.events(), reply.name)
