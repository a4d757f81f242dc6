"""A sample that arrives token by token, or whole where the server can't stream, through the same limits as any."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import final

import msgspec
import trio

from tinker_actors.clients.sampler import Sampler
from tinker_actors.errors import (
    APIError,
    APIStatusError,
    NotStreamed,
    RequestFailedError,
    TinkerError,
)
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.pending import PendingEntry
from tinker_actors.flow.reaction import Reaction, while_submitting
from tinker_actors.polling import Poller
from tinker_actors.sessions import Session
from tinker_actors.types import ByteEstimator, SampleRequest, SampleResponse, SampleStreamChunk
from tinker_actors.wire.endpoints.sampling import stream_sample
from tinker_actors.wire.sample_stream import SampleStream

__all__ = ["StreamedSample", "open_stream"]


@final
class StreamedSample(AsyncIterator[SampleStreamChunk]):
    """The tokens of one sample, each a SampleStreamChunk as soon as it is there; the last has a ``finish_reason``.

    ``fallback`` when the server can't stream: the finished sample in pieces, which have no ``token`` text then.
    Raises RequestFailedError where the server gives up, APIConnectionError where the stream breaks off.
    """

    def __init__(
        self,
        chunks: AsyncIterator[SampleStreamChunk],
        entry: PendingEntry,
        ended: Callable[[int], object],
        *,
        fallback: bool,
    ) -> None:
        self.fallback = fallback
        self._chunks = chunks
        self._entry = entry
        self._ended = ended
        self._sampled = 0
        self._over = False

    async def __anext__(self) -> SampleStreamChunk:
        if self._over:
            raise StopAsyncIteration
        chunk = await anext(self._chunks)
        if chunk.error is not None:
            self._over = True
            raise RequestFailedError(
                chunk.error, category="unknown", request_id="a stream has none", operation=self._entry.name
            )
        self._sampled += chunk.token_id is not None
        self._entry.enter("streaming", f"{self._sampled} tokens have come", expected=True)
        if chunk.done:
            self._over = True
            self._ended(self._sampled)
        return chunk

    async def text(self) -> str:
        """The rest of it as text. Raises as the tokens do."""
        return "".join([chunk.token async for chunk in self if chunk.token is not None])

    def __repr__(self) -> str:
        return f"<StreamedSample {self._entry.snapshot()}>"


@asynccontextmanager
async def open_stream(
    session: Session,
    sampler: Sampler,
    poller: Poller,
    request: SampleRequest,
    entry: PendingEntry,
    *,
    timeout: float,
    whole: Callable[[], Awaitable[SampleResponse]] | None,
    comes_back: Callable[[OutOfPatience, str, int], Awaitable[bool]],
    failure: Callable[[OutOfPatience, str], TinkerError],
    ended: Callable[[int], object],
) -> AsyncGenerator[StreamedSample]:
    """The stream, once its head is there; its place in the limits is the caller's. Leaving gives up the rest.

    ``whole`` samples at servers that can't stream; without it they are NotStreamed.
    """
    size = ByteEstimator().prompt(request.prompt)
    prefix = entry.name
    began = trio.current_time()
    async with AsyncExitStack() as stack:
        while True:
            seq_id = sampler.next_seq_id()
            entry.name = f"{prefix}/{seq_id}"
            sampling_session_id, generation = await sampler.ready(session, entry), session.generation
            numbered = msgspec.structs.replace(request, seq_id=seq_id, sampling_session_id=sampling_session_id)
            entry.enter("waiting", "its turn to be sent", expected=True)
            key = session.new_key()

            async def send(numbered: SampleRequest = numbered, key: str = key) -> SampleStream:
                entry.enter("sent")
                return await stack.enter_async_context(stream_sample(session.api, numbered, key=key, timeout=timeout))

            try:
                stream = await poller.patience().persist(
                    lambda send=send: session.limits.sampling.attempt(
                        send, size, lambda reason: entry.enter("waiting", reason)
                    ),
                    _while_streaming,
                    entry.explain,
                )
            except OutOfPatience as gone:
                if _unknown_call(gone.error, sampling_session_id):
                    if whole is None:
                        raise NotStreamed(
                            f"{entry.name}: the server streams no samples ({gone.error.request}). Use sample(), or "
                            "sample_stream(..., fallback=True) to have the finished sample in pieces"
                        ) from gone.error
                    yield StreamedSample(_Pieces(await whole()), entry, lambda _: None, fallback=True)
                    return
                within = trio.current_time() - began < session.config.outage_bound
                if (
                    within
                    and gone.reaction is Reaction.LOST
                    and await comes_back(gone, sampling_session_id, generation)
                ):
                    continue
                raise failure(gone, "be sent") from gone.error
            break
        entry.enter("streaming", "no token has come yet", expected=True)
        yield StreamedSample(stream, entry, ended, fallback=False)


def _while_streaming(error: APIError) -> Reaction:
    return Reaction.FAIL if isinstance(error, APIStatusError) and error.status == 501 else while_submitting(error)


def _unknown_call(error: APIError, sampling_session_id: str) -> bool:
    """Whether the server knows no such call. Some say 404 of it, as of a sampling session that is no more."""
    if not isinstance(error, APIStatusError):
        return False
    return error.status in (405, 501) or (error.status == 404 and sampling_session_id not in error.detail)


@final
class _Pieces(AsyncIterator[SampleStreamChunk]):
    """The one sequence of ``response``, token by token."""

    def __init__(self, response: SampleResponse) -> None:
        self._sequence = response.sequences[0]
        self._next = 0

    async def __anext__(self) -> SampleStreamChunk:
        await trio.lowlevel.checkpoint()
        sequence, index = self._sequence, self._next
        count = len(sequence.tokens)
        if index >= max(count, 1):
            raise StopAsyncIteration
        self._next += 1
        last = index + 1 >= count
        return SampleStreamChunk(
            token_id=int(sequence.tokens[index]) if count else None,
            index=index if count else None,
            logprob=float(sequence.logprobs[index]) if count and sequence.logprobs is not None else None,
            finish_reason=str(sequence.stop_reason) if last else None,
            total_tokens=count if last else None,
        )
