"""The samples of one sampling client: sent, waited for, and asked for anew, each in its caller's task."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import final

import msgspec
import trio

from tinker_actors.clients.sample_request import require_honoured
from tinker_actors.clients.sampler import Sampler
from tinker_actors.clients.streaming import StreamedSample, open_stream
from tinker_actors.errors import (
    APIResponseError,
    APIStatusError,
    ClosedError,
    ModelLost,
    OutageError,
    RequestFailedError,
    TinkerError,
)
from tinker_actors.flow.patience import OutOfPatience, Patience, brief
from tinker_actors.flow.pending import PendingEntry
from tinker_actors.flow.reaction import Reaction, while_submitting
from tinker_actors.flow.retry import RetryHandler
from tinker_actors.ports.spans import Span
from tinker_actors.sessions import Session, SessionState
from tinker_actors.types import (
    ByteEstimator,
    Promise,
    SampleRequest,
    SampleResponse,
)
from tinker_actors.wire.endpoints.sampling import asample

__all__ = ["Samples"]

_log = logging.getLogger("tinker_actors.clients")


@final
class Samples:
    """A plain object: ``sampler``'s weights are asked as ``handler`` says; ``name`` is the client's."""

    def __init__(self, session: Session, sampler: Sampler, name: str, handler: RetryHandler) -> None:
        self._session = session
        self._sampler = sampler
        self._name = name
        self._handler = handler
        self._poller = session.poller(handler)

    @property
    def _sampling_session_id(self) -> str:
        assert self._sampler.sampling_session_id is not None
        return self._sampler.sampling_session_id

    async def run(self, request: SampleRequest) -> SampleResponse:
        """The sample that ``request`` asks for, asked for anew as long as that helps."""
        session = self._session
        entry = session.pending.open(f"{session.name}/{self._name}", "sample", "waiting")
        entry.enter("waiting", "as many as the server bears are in flight", expected=True)
        span = session.spans.begin("sample", {"tinker.sampling_session_id": self._sampling_session_id})
        span.enter("queue")
        try:
            async with session.limits.sampling.in_flight(), self._handler.connection():
                return await self._sample(request, entry, span)
        except TinkerError as error:
            told = self._closed_under(error, "sample")
            session.failed(entry.name, "sample", told)
            span.end(told)
            if told is error:
                raise
            raise told from error
        finally:
            span.end()
            session.pending.close(entry)

    @asynccontextmanager
    async def stream(self, request: SampleRequest, timeout: float, fallback: bool) -> AsyncGenerator[StreamedSample]:
        """The same, token by token as the server gives them."""
        session = self._session
        entry = session.pending.open(f"{session.name}/{self._name}", "sample_stream", "waiting")
        entry.enter("waiting", "as many as the server bears are in flight", expected=True)
        span = session.spans.begin("sample_stream", {"tinker.sampling_session_id": self._sampling_session_id})
        try:
            async with (
                session.limits.sampling.in_flight(),
                self._handler.connection(),
                open_stream(
                    session,
                    self._sampler,
                    self._poller,
                    request,
                    entry,
                    timeout=timeout,
                    whole=(lambda: self._sample(request, entry, span)) if fallback else None,
                    comes_back=self._comes_back,
                    failure=self._failure,
                    ended=lambda sampled: self._count(request, sampled, entry),
                ) as stream,
            ):
                yield stream
        except TinkerError as error:
            told = self._closed_under(error, "sample_stream")
            session.failed(entry.name, "sample_stream", told)
            span.end(told)
            if told is error:
                raise
            raise told from error
        finally:
            span.end()
            session.pending.close(entry)

    async def _sample(self, request: SampleRequest, entry: PendingEntry, span: Span) -> SampleResponse:
        session = self._session
        dispatch = session.limits.sampling
        size = ByteEstimator().prompt(request.prompt)
        lost_since: float | None = None

        def held_back(reason: str) -> None:
            entry.enter("waiting", reason)

        while True:
            seq_id = self._sampler.next_seq_id()
            entry.name = f"{session.name}/{self._name}/{seq_id}"
            sampling_session_id, generation = await self._sampler.ready(session, entry), session.generation
            numbered = msgspec.structs.replace(request, seq_id=seq_id, sampling_session_id=sampling_session_id)
            entry.enter("waiting", "its turn to be sent", expected=True)
            key = session.new_key()
            began = trio.current_time()
            try:
                session.points.reach("sampling.before_send", entry.name)
                patience = self._poller.patience()

                async def send(
                    numbered: SampleRequest = numbered, key: str = key, patience: Patience = patience
                ) -> Promise:
                    entry.enter("sent")
                    span.enter("send")
                    with span.current():
                        return await asample(session.api, numbered, key=key, attempt=patience.tries)

                promise = await patience.persist(
                    lambda send=send: dispatch.attempt(send, size, held_back), while_submitting, entry.explain
                )
            except OutOfPatience as gone:
                lost_since = began if lost_since is None else lost_since
                if trio.current_time() - lost_since < session.config.outage_bound and await self._comes_back(
                    gone, sampling_session_id, generation
                ):
                    continue
                raise self._failure(gone, "be sent") from gone.error
            entry.enter("promised")
            span.enter("poll")
            roundtrip = trio.current_time() - began
            try:
                with session.cancellations.unless_settled(promise.request_id):
                    await self._sampler.completions.until_there(promise.request_id)
                    response = await self._poller.result(
                        promise.request_id,
                        SampleResponse,
                        entry,
                        request_type="Sample",
                        point="sampling.polling",
                        on_queue_state=self._sampler.queue.report,
                        roundtrip=roundtrip,
                        span=span,
                    )
            except OutOfPatience as gone:
                if gone.reaction is not Reaction.LOST or session.over:
                    raise self._failure(gone, "get its result") from gone.error
                # the promise expired or the server restarted: the sample is asked for anew, but not for ever
                now = trio.current_time()
                lost_since = now if lost_since is None else lost_since
                if now - lost_since >= session.config.outage_bound:
                    raise self._failure(gone, "get its result") from gone.error
                _log.warning("%s: %s; sampling again", entry.name, gone.error)
                session.doubt()
                session.metrics.add("samples_repeated")
                span.enter("queue")
                await trio.sleep(session.random.uniform(0.0, 1.0))
                continue
            except RequestFailedError as failed:
                lost_since = began if lost_since is None else lost_since
                if (
                    trio.current_time() - lost_since >= session.config.outage_bound
                    or not await self._session_was_lost(generation)
                ):
                    raise
                _log.warning("%s: %s; sampling again", entry.name, failed)
                session.metrics.add("samples_repeated")
                span.enter("queue")
                continue
            self._sampler.completions.fetched(promise.request_id)
            if len(response.sequences) != request.num_samples:
                given = f"{len(response.sequences)} sequences where {request.num_samples} are due"
                raise APIResponseError(f"{entry.name}: the server gives {given} (request {promise.request_id})")
            self._count(request, sum(len(one.tokens) for one in response.sequences), entry)
            require_honoured(request, response)
            return _with_ids(response, promise.sample_sequence_ids)

    async def _comes_back(self, gone: OutOfPatience, sampling_session_id: str, generation: int) -> bool:
        """Whether the weights that the server no longer holds are to be had again, so that waiting for them helps."""
        session, sampler = self._session, self._sampler
        if gone.reaction is not Reaction.LOST or session.config.recovery is None:
            return False
        await self._confirm()
        if session.generation == generation:  # the session lives: it has lost these weights alone
            if sampler.ephemeral:
                return False
            sampler.miss(sampling_session_id)
        return True

    async def _session_was_lost(self, generation: int) -> bool:
        """Whether a sample has failed with its session, which servers say in words of their own only."""
        session = self._session
        if session.config.recovery is None:
            return False
        await self._confirm()
        return session.generation != generation and not session.over

    async def _confirm(self) -> None:
        try:
            await self._session.confirm()
        except OutOfPatience as gone:
            raise self._failure(gone, "be taken, since nobody knows whether its session lives") from gone.error

    def _closed_under(self, error: TinkerError, what: str) -> TinkerError:
        """``error``, or what it means where this program has closed the session meanwhile."""
        if self._session.state.value is not SessionState.FINISHED:
            return error
        if not isinstance(error, RequestFailedError | ModelLost | APIStatusError):
            return error
        return ClosedError(f"{what} was not done: session {self._session.session_id} was closed meanwhile")

    def _count(self, request: SampleRequest, sampled: int, entry: PendingEntry) -> None:
        session = self._session
        prompted = request.prompt.known_length or 0
        session.metrics.add("samples_done")
        session.metrics.add("tokens_prompted", prompted)
        session.metrics.add("tokens_sampled", sampled)
        session.metrics.observe("sample_seconds", entry.snapshot().age)
        session.usage.add(self._sampler.counted_as, prompted=prompted, sampled=sampled)

    def _failure(self, gone: OutOfPatience, what: str) -> TinkerError:
        if gone.outage:
            return OutageError(
                f"a sample of {self._name} could not {what}: no usable answer for {gone.lasted:.0f} s, last "
                f"{brief(gone.error)}. Check the server and the network. Waiting:",
                operation=self._name,
                pending=self._session.pending.lines(),
            )
        if gone.reaction is Reaction.LOST:
            self._session.doubt()
            return ModelLost(
                f"a sample of {self._name} could not {what}: the server no longer holds its session or weights "
                f"({gone.error.fact}). Create a new sampling client from a saved path",
                operation=self._name,
            )
        return gone.error


def _with_ids(response: SampleResponse, ids: tuple[str, ...] | None) -> SampleResponse:
    # servers older than SDK 0.26 promise no sequence ids
    if ids is None or len(ids) != len(response.sequences):
        return response
    sequences = tuple(
        msgspec.structs.replace(sequence, sequence_id=id_)
        for sequence, id_ in zip(response.sequences, ids, strict=True)
    )
    return msgspec.structs.replace(response, sequences=sequences)
