"""The training client's actor: creates its model, runs the send lane, polls for results."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

import trio

from supervision import Actor, handles
from tinker_actors.clients.training.failure import poll_failure, split_failure
from tinker_actors.clients.training.lane import SendLane
from tinker_actors.clients.training.messages import GetInfo, Wake
from tinker_actors.clients.training.model import Model
from tinker_actors.clients.training.operations import REQUEST_TYPES, RESULT_TYPES, combine, problem_of
from tinker_actors.clients.training.saves import is_named_save, name_is_taken, saved_before
from tinker_actors.errors import APIResponseError, ModelLost, RequestFailedError, TinkerError
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.reaction import Reaction, while_polling, while_polling_save, while_submitting
from tinker_actors.ledger import Chunk, Operation, Sending
from tinker_actors.sessions import Session
from tinker_actors.types import CreateModelRequest, CreateModelResponse, GetInfoResponse
from tinker_actors.wire.endpoints.models import create_model, get_info

__all__ = ["TrainingActor"]

_log = logging.getLogger("tinker_actors.clients")

_DOUBLINGS = 3  # of the time that creating a model may take


class TrainingActor(Actor):
    """Works off one model's ledger.

    A new incarnation reads the ledger: what is promised is polled again under its request id, what was sent
    without a promise is sent again under its seq_id and idempotency key, the rest goes on in order.
    """

    def __init__(self, session: Session, model: Model) -> None:
        self._session = session
        self._model = model
        self._ledger = model.ledger
        self._poller = session.poller()
        self._scopes: set[trio.CancelScope] = set()
        self._lane = SendLane(session, model.ledger, promised=self._start_poll, stop=self._stop_lane)

    async def init(self) -> None:
        """Create the model, if no earlier incarnation has. Raises why the server would not."""
        if self._ledger.model_id is None:
            await self._create()
        for operation in self._ledger.unfinished():
            if operation.sending is not None and operation.sending.complete:
                self._start_poll(operation)
        self.context.start_task(self._run_lane, name="lane")

    @handles(Wake)
    def wake(self, message: Wake) -> None:
        """Let the lane look at the ledger."""
        self._lane.wake()

    @handles(GetInfo)
    async def get_info(self, message: GetInfo) -> None:
        """Ask the server in a task of its own, so that the mailbox stays free."""
        reply = self.context.defer_reply()

        async def ask() -> None:
            try:
                reply.send(await self._get_info())
            except TinkerError as error:
                reply.fail(error)

        self.context.start_task(ask, name="get_info")

    async def _create(self) -> None:
        session, model = self._session, self._model
        request = CreateModelRequest(
            session_id=session.require_active(),
            model_seq_id=model.seq_id,
            base_model=model.base_model,
            lora_config=model.lora,
            user_metadata=model.user_metadata or None,
        )
        with session.pending.track(self._ledger.name, "create_model", "sent") as entry:
            try:
                patience = self._poller.patience()
                began = trio.current_time()
                promise = await patience.persist(
                    lambda: create_model(
                        session.api,
                        request,
                        key=model.key,
                        attempt=patience.tries,
                        # a server that loads the base model first may be about it when the first try is over
                        timeout=session.config.timeout * 2 ** min(patience.tries, _DOUBLINGS),
                    ),
                    while_submitting,
                    entry.explain,
                )
                entry.enter("promised")
                created = await self._poller.result(
                    promise.request_id,
                    CreateModelResponse,
                    entry,
                    request_type="CreateModel",
                    point="training.creating",
                    on_queue_state=model.queue.report,
                    roundtrip=trio.current_time() - began,
                )
                self._ledger.model_id = created.model_id
                model.info = await self._get_info()
            except OutOfPatience as gone:
                raise gone.error from None

    async def _get_info(self) -> GetInfoResponse:
        model_id = self._ledger.model_id
        assert model_id is not None
        with self._session.pending.track(self._ledger.name, "get_info", "sent") as entry:
            try:
                patience = self._poller.patience()
                return await patience.persist(
                    lambda: get_info(self._session.api, model_id, attempt=patience.tries),
                    while_polling,
                    entry.explain,
                )
            except OutOfPatience as gone:
                raise gone.error from None

    async def _run_lane(self) -> None:
        with self._until_stopped():
            await self._lane.run()

    @contextmanager
    def _until_stopped(self) -> Generator[None]:
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)

    def _start_poll(self, operation: Operation) -> None:
        self.context.start_task(self._poll, operation, name=f"poll {operation.name}")

    async def _poll(self, operation: Operation) -> None:
        sending = operation.sending
        assert sending is not None
        with self._until_stopped():
            while self._ledger.find(operation.op_no) is operation:
                failures = await self._poll_missing(operation, sending)
                renew = next((f for f in failures if isinstance(f, OutOfPatience) and _credential(f)), None)
                if renew is None:
                    if self._ledger.find(operation.op_no) is operation:
                        self._conclude(operation, failures)
                    return
                _log.error(
                    "the results of %s wait until its credential is mended: %s", self._ledger.name, renew.error
                )
                self._ledger.halt(renew.error)
                await self._ledger.until_resumed()

    async def _poll_missing(self, operation: Operation, sending: Sending) -> list[RequestFailedError | OutOfPatience]:
        failures: list[RequestFailedError | OutOfPatience] = []
        missing = [i for i, result in enumerate(sending.results) if result is None]
        chunks = operation.chunks
        if len(missing) == 1:
            await self._poll_chunk(operation, chunks[missing[0]], missing[0], failures)
        else:
            async with trio.open_nursery() as nursery:
                for index in missing:
                    nursery.start_soon(self._poll_chunk, operation, chunks[index], index, failures)
        return failures

    async def _poll_chunk(
        self, operation: Operation, chunk: Chunk, index: int, failures: list[RequestFailedError | OutOfPatience]
    ) -> None:
        sending = operation.sending
        assert sending is not None
        request_id = sending.request_ids[index]
        assert request_id is not None
        saves = is_named_save(chunk)
        try:
            result = await self._poller.result(
                request_id,
                RESULT_TYPES[operation.kind],
                operation.entry,
                request_type=REQUEST_TYPES[operation.kind],
                point="training.polling",
                on_queue_state=self._model.queue.report,
                react=while_polling_save if saves else while_polling,
                roundtrip=sending.roundtrips[index],
                span=operation.span,
            )
        except RequestFailedError as failure:
            failures.append(failure)
            return
        except OutOfPatience as gone:
            if not (saves and sending.doubts[index] and name_is_taken(gone.error, sending.first_seq_id + index)):
                failures.append(gone)
                return
            # the name was taken by an earlier try of this very save, whose promise was lost
            result = await saved_before(self._session.api, chunk, sending.model_id)
        if problem := problem_of(chunk, result):
            unusable = APIResponseError(f"{operation.kind} {operation.name}: {problem} (request {request_id})")
            failures.append(OutOfPatience(Reaction.RECHECK, unusable, 0.0))
            return
        self._session.points.reach("training.decoded", operation.name)
        self._ledger.deliver(operation, index, result)

    def _conclude(self, operation: Operation, failures: list[RequestFailedError | OutOfPatience]) -> None:
        sending = operation.sending
        assert sending is not None
        if not failures:
            self._count(operation)
            self._ledger.finish(operation, combine(operation.kind, sending.results))
            return
        first = failures[0]
        if isinstance(first, OutOfPatience):
            failure = poll_failure(operation, first, pending=self._session.pending.lines())
            if failure.stops_lane:
                self._stop_lane(failure.error)
                return
            error = failure.error
        else:
            error = first
        if any(result is not None for result in sending.results):
            self._stop_lane(split_failure(operation, error).error)
        else:
            # its Future says so, too, but a program may never look at it
            _log.warning("%s %s %s failed: %s", self._ledger.name, operation.kind, operation.name, error)
            self._session.failed(f"{self._ledger.name}{operation.name}", operation.kind, error)
            self._ledger.fail(operation, error)

    def _count(self, operation: Operation) -> None:
        session = self._session
        session.metrics.add("operations_done")
        session.metrics.observe("operation_seconds", operation.entry.snapshot().age)
        tokens = sum(chunk.tokens for chunk in operation.chunks)
        if tokens:
            session.metrics.add("tokens_trained", tokens)
            session.usage.add(self._model.base_model, trained=tokens)

    def _stop_lane(self, error: TinkerError) -> None:
        _log.error("the lane of %s stops: %s", self._ledger.name, error)
        self._session.failed(self._ledger.name, "lane", error)
        if isinstance(error, ModelLost):
            self._session.doubt()
        self._ledger.stop(error)
        for scope in tuple(self._scopes):
            scope.cancel(reason="the lane has stopped")


def _credential(failure: OutOfPatience) -> bool:
    return failure.reaction is Reaction.RENEW
