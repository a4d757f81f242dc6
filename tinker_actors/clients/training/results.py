"""Results: what is promised, asked for until it is there or has failed, and what follows from it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, final

import trio

from tinker_actors.clients.training.custom_loss import differentiated, logprobs_of
from tinker_actors.clients.training.failure import (
    confirm_failure,
    poll_failure,
    replay_failure,
    split_failure,
    spoiling_failure,
)
from tinker_actors.clients.training.loss_behind import loss_behind
from tinker_actors.clients.training.model import Model
from tinker_actors.clients.training.operations import REQUEST_TYPES, RESULT_TYPES, combine, problem_of
from tinker_actors.clients.training.saves import is_named_save, name_is_taken, saved_before
from tinker_actors.errors import (
    APIError,
    APIResponseError,
    ConflictError,
    LossTermError,
    RequestFailedError,
    TinkerError,
)
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.reaction import Reaction, by_order, while_polling, while_polling_save
from tinker_actors.ledger import Chunk, Operation, Sending
from tinker_actors.sessions import Session
from tinker_actors.types import GetInfoResponse

__all__ = ["Results"]

_log = logging.getLogger("tinker_actors.clients")


@final
class Results:
    """Polls for what its ledger's operations were promised. It lives and dies with one incarnation of the training
    actor, which runs ``poll`` in a task for each of them. What a chunk has given is in the ledger at once, so that
    the next incarnation asks only for what is missing.
    """

    def __init__(
        self,
        session: Session,
        model: Model,
        *,
        get_info: Callable[[], Awaitable[GetInfoResponse]],
        give_up: Callable[[TinkerError, Operation | None], None],
        finish: Callable[[Operation, Any], None],
    ) -> None:
        self._session = session
        self._model = model
        self._ledger = model.ledger
        self._poller = session.poller()
        self._get_info = get_info
        self._give_up = give_up
        self._finish = finish

    async def poll(self, operation: Operation, sending: Sending) -> None:
        """Ask until the operation has its result, or has failed; what is halted waits, and goes on here."""
        while self._ledger.at(operation, sending):
            mended = self._session.mended.value
            failures = await self._poll_missing(operation, sending)
            renew = next((f for f in failures if isinstance(f, OutOfPatience) and _credential(f)), None)
            if renew is None:
                if operation.half and not failures:
                    await self._differentiate(operation, sending)
                    return
                try:
                    lost = await loss_behind(self._session, sending.model_id, operation, failures, self._get_info)
                except OutOfPatience as gone:
                    if self._ledger.at(operation, sending):
                        pending = self._session.pending.lines()
                        self._give_up(confirm_failure(self._ledger.name, gone, pending), None)
                    return
                if self._ledger.at(operation, sending):
                    if lost is not None:
                        self._give_up(lost, None)
                    else:
                        self._conclude(operation, failures)
                return
            if self._session.mended.value != mended:
                continue  # it was the old credential that was refused
            _log.error("the results of %s wait until its credential is mended: %s", self._ledger.name, renew.error)
            self._ledger.halt(renew.error)
            await self._ledger.until_resumed()

    async def _differentiate(self, operation: Operation, sending: Sending) -> None:
        """Have the user's function called, in its turn: those behind it wait in the lane."""
        session, ledger = self._session, self._ledger
        loss = self._model.losses[operation.op_no]
        operation.entry.enter("computing", "its loss is being computed here", expected=True)
        try:
            evaluated = await loss.evaluate(logprobs_of(sending.results), session.offload)
            chunks, local = differentiated(operation, evaluated)
        except LossTermError as error:
            if ledger.at(operation, sending):
                self._model.losses.pop(operation.op_no, None)
                _log.warning("%s %s %s failed: %s", ledger.name, operation.kind, operation.name, error)
                session.failed(f"{ledger.name}{operation.name}", operation.kind, error)
                ledger.fail(operation, error)
            return
        session.points.reach("training.differentiated", operation.name)
        if ledger.at(operation, sending):
            ledger.differentiate(operation, chunks, local)
            self._model.losses.pop(operation.op_no, None)

    async def _poll_missing(self, operation: Operation, sending: Sending) -> list[RequestFailedError | OutOfPatience]:
        failures: list[RequestFailedError | OutOfPatience] = []
        missing = [i for i, result in enumerate(sending.results) if result is None]
        chunks = operation.chunks
        if len(missing) == 1:
            await self._poll_chunk(operation, sending, chunks[missing[0]], missing[0], failures)
        else:
            async with trio.open_nursery() as nursery:
                for index in missing:
                    nursery.start_soon(self._poll_chunk, operation, sending, chunks[index], index, failures)
        return failures

    async def _poll_chunk(
        self,
        operation: Operation,
        sending: Sending,
        chunk: Chunk,
        index: int,
        failures: list[RequestFailedError | OutOfPatience],
    ) -> None:
        request_id = sending.request_ids[index]
        assert request_id is not None
        saves = is_named_save(chunk)
        seq_id, doubted = sending.first_seq_id + index, sending.doubts[index]

        def react(error: APIError) -> Reaction:
            reaction = while_polling_save(error) if saves else while_polling(error)
            return by_order(reaction, error, self._session.server_class, seq_id, doubted=doubted)

        try:
            result = await self._poller.result(
                request_id,
                RESULT_TYPES[operation.kind],
                operation.entry,
                request_type=REQUEST_TYPES[operation.kind],
                point="training.polling",
                on_queue_state=self._model.queue.report,
                react=react,
                roundtrip=sending.roundtrips[index],
                span=operation.span,
            )
        except RequestFailedError as failure:
            failures.append(failure)
            return
        except OutOfPatience as gone:
            if not (saves and doubted and name_is_taken(gone)):
                failures.append(gone)
                return
            # the name was taken by an earlier try of this very save, whose promise was lost
            result = await saved_before(self._session.api, chunk, sending.model_id)
        if problem := problem_of(chunk, result):
            unusable = APIResponseError(f"{operation.kind} {operation.name}: {problem} (request {request_id})")
            failures.append(OutOfPatience(Reaction.RECHECK, unusable, 0.0))
            return
        self._session.points.reach("training.decoded", operation.name)
        if self._ledger.at(operation, sending):
            self._ledger.deliver(operation, index, result)

    def _conclude(self, operation: Operation, failures: list[RequestFailedError | OutOfPatience]) -> None:
        sending = operation.sending
        assert sending is not None
        if not failures:
            self._finish(operation, combine(operation, sending.results))
            return
        first = failures[0]
        if (saved := self._model.saved_as(operation)) is not None and _taken(first):
            self._finish(operation, saved)  # what the server has under that name is this very state
            return
        if operation.automatic and isinstance(first, OutOfPatience):
            self._ledger.fail(operation, first.error)  # nothing is built on it: others find out what is wrong
            return
        if isinstance(first, OutOfPatience):
            failure = poll_failure(operation, first, pending=self._session.pending.lines())
            if failure.stops_lane:
                self._give_up(failure.error, None)
                return
            error = failure.error
        else:
            error = first
        if self._is_rebuilt_without(operation, first):
            self._give_up(spoiling_failure(operation, error), operation)
        elif any(result is not None for result in sending.results):
            self._give_up(split_failure(operation, error).error, operation)
        elif operation.replayed:
            self._give_up(replay_failure(operation, error), None)
        else:
            # its Future says so, too, but a program may never look at it
            _log.warning("%s %s %s failed: %s", self._ledger.name, operation.kind, operation.name, error)
            self._session.failed(f"{self._ledger.name}{operation.name}", operation.kind, error)
            self._ledger.fail(operation, error)

    def _is_rebuilt_without(self, operation: Operation, failure: RequestFailedError | OutOfPatience) -> bool:
        policy = self._session.config.recovery
        by_server = isinstance(failure, RequestFailedError) and failure.category != "user"
        wanted = policy is not None and policy.replay and policy.server_failure == "rebuild"
        return by_server and wanted and not operation.replayed and operation.changes_model


def _credential(failure: OutOfPatience) -> bool:
    return failure.reaction is Reaction.RENEW


def _taken(failure: RequestFailedError | OutOfPatience) -> bool:
    return isinstance(failure, RequestFailedError) or isinstance(failure.error, ConflictError)
