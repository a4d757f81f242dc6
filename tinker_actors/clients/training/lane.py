"""The send lane: one operation's send turn after another, in order of acceptance."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, final

import trio

from tinker_actors.clients.training import operations
from tinker_actors.clients.training.creation import Made
from tinker_actors.clients.training.failure import (
    confirm_failure,
    gap_failure,
    probe_failure,
    replay_failure,
    send_failure,
    unreadable_replay,
)
from tinker_actors.clients.training.fresh_load import load_afresh, may_need_fresh_model
from tinker_actors.clients.training.model import Model
from tinker_actors.clients.training.probe import ask_class
from tinker_actors.clients.training.saves import is_named_save, name_is_taken, saved_before
from tinker_actors.errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    ConflictError,
    DiskError,
    RequestFailedError,
    TinkerError,
    UnknownVerdict,
)
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.reaction import (
    Reaction,
    by_class,
    by_order,
    may_have_arrived,
    while_checkpointing,
    while_saving,
    while_submitting,
)
from tinker_actors.ledger import Gap, Operation, OperationKind, Sending
from tinker_actors.server_class import ServerClass
from tinker_actors.sessions import Session, of_ids

__all__ = ["SendLane"]

_log = logging.getLogger("tinker_actors.clients")


_TAKEN = (400, 409, 422)  # what servers say of another request under a seq_id that they have


@final
class SendLane:
    """Sends what its ledger has accepted. It lives and dies with one incarnation of the training actor.

    An operation's turn ends when every chunk has its promise; only then does the next one begin, so the server
    sees them in order. Everything that a next incarnation needs is in the ledger before the first byte leaves.
    """

    def __init__(
        self,
        session: Session,
        model: Model,
        *,
        promised: Callable[[Operation], None],
        forwarded: Callable[[Operation, Sending], Awaitable[None]],
        switch: Callable[[Operation, Made, int], None],
        found: Callable[[ServerClass, str], None],
        stop: Callable[[TinkerError, Operation | None], None],
        finish: Callable[[Operation, Any], None],
    ) -> None:
        self._session = session
        self._model = model
        self._ledger = model.ledger
        self._promised = promised
        self._forwarded = forwarded
        self._switch = switch
        self._found = found
        self._stop = stop
        self._finish = finish
        self._work = trio.Event()
        self._mended = 0

    def wake(self) -> None:
        """There may be something to send."""
        self._work.set()

    async def run(self) -> None:
        """Send until something was to be decided by the user, and has been."""
        ledger = self._ledger
        decisions = ledger.decisions
        while True:
            if ledger.undecided is not None or ledger.decisions != decisions:
                await ledger.until_decided()
                return
            await ledger.until_resumed()
            self._mended = self._session.mended.value
            self._work = trio.Event()
            if gaps := ledger.numbers.gaps():
                await self._fill(gaps[0])
                continue
            operation = ledger.next_to_send()
            if operation is None:
                await self._work.wait()
                continue
            if self._session.server_class is None and not self._comes_first(operation):
                await self._find_class(operation)
                continue
            if operation.away:
                await self._recall(operation)
                continue
            self._session.points.reach("training.before_send", operation.name)
            if operation.sending is not None and not operation.sending.complete:
                seq_id = operation.sending.first_seq_id
                _log.warning("%s %s: sending again under seq_id %d", ledger.name, operation.name, seq_id)
            sending = ledger.start_sending(operation)
            with operation.span.current():
                await self._send(operation, sending)

    def _comes_first(self, operation: Operation) -> bool:
        """Some servers load into fresh models only: nothing that shows their class may come before a first load."""
        session, ledger, sending = self._session, self._ledger, operation.sending
        due = ledger.statistics().next_seq_id if sending is None else sending.first_seq_id
        if operation.kind is not OperationKind.LOAD_STATE or due > 1:
            return False
        assert ledger.model_id is not None
        return of_ids(session.session_id, ledger.model_id) is None

    async def _find_class(self, operation: Operation) -> None:
        """Know what the server does with a repeated request, before there is one that matters."""
        session, ledger = self._session, self._ledger
        operation.entry.explain("until it is known what this server does with a repeated request")
        async with session.class_lock:
            if session.server_class is not None:
                return  # another client has found out meanwhile
            assert ledger.model_id is not None
            try:
                known = of_ids(session.session_id, ledger.model_id) or await ask_class(session, ledger)
            except OutOfPatience as gone:
                if gone.reaction is Reaction.RENEW:
                    self._halt(gone)
                else:
                    self._stop(probe_failure(ledger.name, gone, session.pending.lines()), None)
                return
            if session.learn_class(*known):
                self._found(*known)

    async def _recall(self, operation: Operation) -> None:
        """Have what was spilled of ``operation`` in memory."""
        ledger = self._ledger
        operation.entry.explain("its data is being read from the disk")
        try:
            await ledger.recall(operation)
        except DiskError as error:
            if operation is not ledger.next_to_send():
                return  # it has ended meanwhile
            if operation.replayed:
                self._stop(unreadable_replay(ledger.name, operation, error), None)
                return
            _log.error("%s %s %s fails: %s", ledger.name, operation.kind, operation.name, error)
            self._session.failed(f"{ledger.name}{operation.name}", operation.kind, error)
            ledger.unreadable(operation, error)

    async def _send(self, operation: Operation, sending: Sending) -> None:
        ledger = self._ledger
        missing = sending.missing()
        failures: list[OutOfPatience] = []
        # others take what comes first first, or refuse it
        sorts = self._session.server_class is ServerClass.DEDUP
        if sorts and self._session.server_config.parallel_fwdbwd_chunks and len(missing) > 1:
            # the first chunk last: the server then has the whole operation and can run it at once
            first, *rest = missing
            async with trio.open_nursery() as nursery:
                for index in rest:
                    nursery.start_soon(self._send_chunk, operation, sending, index, failures)
            if not failures:
                await self._send_chunk(operation, sending, first, failures)
        else:
            for index in missing:
                await self._send_chunk(operation, sending, index, failures)
                if failures:
                    break
        if not ledger.at(operation, sending):
            return  # it has ended meanwhile
        if failures and may_need_fresh_model(operation, sending, failures[0]):
            await self._afresh(operation, sending)
        elif failures:
            self._refused(operation, failures[0])
        elif sending.assumed:
            ledger.assume(operation)
        elif operation.half:
            await self._forwarded(operation, sending)  # nothing may come between the passes of a custom loss
        else:
            self._promised(operation)

    async def _send_chunk(
        self, operation: Operation, sending: Sending, index: int, failures: list[OutOfPatience]
    ) -> None:
        session, ledger = self._session, self._ledger
        seq_id = sending.first_seq_id + index
        chunk = operation.chunks[index]

        def announce(reason: str) -> None:
            operation.entry.explain(reason)
            _log.warning("%s %s (seq_id %d): %s", ledger.name, operation.name, seq_id, reason)

        # a first load is sent to a server of unknown class, which might do it once more, and later
        server_class = session.server_class or ServerClass.NONE
        doubted = sending.doubts[index]
        if doubted and server_class is ServerClass.NONE:
            crashed = APIConnectionError("this client crashed while it was being sent")
            failures.append(OutOfPatience(_for(operation, Reaction.UNKNOWN), crashed, 0.0))
            return

        if sending.not_before > trio.current_time():
            operation.entry.explain("the server has asked for a pause before it is sent again")
            await trio.sleep_until(sending.not_before)

        async def attempt() -> str:
            nonlocal doubted
            # held while it is sent, not while it waits to be sent again
            async with session.limits.training.hold(chunk.size):
                session.metrics.add("sends")
                sending.doubts[index] = True  # until its end is known, whatever ends this incarnation
                try:
                    promise = await operations.submit(
                        session.api,
                        chunk,
                        model_id=sending.model_id,
                        seq_id=seq_id,
                        key=sending.keys[index],
                        attempt=patience.tries,
                        pack=session.pack if session.server_config.proto_compress_fwdbwd else None,
                    )
                except APIError as error:
                    sending.doubts[index] = doubted = doubted or may_have_arrived(error)
                    if isinstance(error, APIStatusError) and error.retry_after is not None:
                        sending.not_before = max(sending.not_before, trio.current_time() + error.retry_after)
                    raise
            return promise.request_id

        saves = is_named_save(chunk)

        def react(error: APIError) -> Reaction:
            reaction = _reaction_to(operation, saves=saves)(error)
            return _for(operation, by_class(reaction, error, server_class, seq_id, doubted=doubted))

        patience = session.poller().patience()
        began = trio.current_time()
        try:
            request_id = await patience.persist(attempt, react, announce)
        except OutOfPatience as gone:
            if not (saves and doubted and name_is_taken(gone)):
                failures.append(gone)
                return
            # an earlier try of this very save had arrived and its reply was lost
            saved = await saved_before(session.api, chunk, sending.model_id)
            if ledger.at(operation, sending):
                self._finish(operation, saved)
            return
        session.points.reach("training.sent", operation.name)
        sending.doubts[index] = doubted
        sending.roundtrips[index] = trio.current_time() - began
        if ledger.at(operation, sending):
            ledger.promise(operation, index, request_id)
            if sending.complete and not operation.replayed:
                session.metrics.observe("queue_seconds", operation.entry.snapshot().age)

    async def _afresh(self, operation: Operation, sending: Sending) -> None:
        """Load into a new model what the server would not load into this one."""
        ledger, poller = self._ledger, self._session.poller()
        try:
            made, generation = await load_afresh(self._session, self._model, operation, poller)
        except OutOfPatience as gone:
            if ledger.at(operation, sending):
                self._refused(operation, gone)
        except RequestFailedError as failed:
            try:
                await self._session.confirm()
            except OutOfPatience as gone:
                if ledger.at(operation, sending):
                    self._stop(confirm_failure(ledger.name, gone, self._session.pending.lines()), None)
                return
            if self._session.generation == ledger.generation and ledger.at(operation, sending):
                self._failed_afresh(operation, failed)  # the load is no good, wherever it goes
        else:
            if ledger.at(operation, sending):
                self._switch(operation, made, generation)

    def _failed_afresh(self, operation: Operation, failed: RequestFailedError) -> None:
        """The model that was in training goes on without the load: what it refused is a number to be filled."""
        self._model.fresh.pop(operation.op_no, None)
        if operation.replayed:
            self._stop(replay_failure(operation, failed), None)
            return
        _log.warning("%s %s %s failed: %s", self._ledger.name, operation.kind, operation.name, failed)
        self._session.failed(f"{self._ledger.name}{operation.name}", operation.kind, failed)
        self._ledger.refuse(operation, failed)

    def _refused(self, operation: Operation, gone: OutOfPatience) -> None:
        assert operation.sending is not None
        if gone.reaction is Reaction.RENEW:
            self._halt(gone)  # its turn comes again when the credential was mended
            return
        if (saved := self._model.saved_as(operation)) is not None and isinstance(gone.error, ConflictError):
            self._ledger.leave_gap(operation)
            self._finish(operation, saved)
            return
        if operation.automatic and not operation.replayed and gone.reaction in (Reaction.FAIL, Reaction.RECHECK):
            self._ledger.refuse(operation, gone.error)
            return
        failure = send_failure(
            operation,
            gone,
            partly=any(operation.sending.request_ids) or bool(operation.sending.assumed),
            pending=self._session.pending.lines(),
            behind=tuple(
                f"{other.kind} {other.name}" for other in self._ledger.unfinished() if other.op_no > operation.op_no
            ),
        )
        if failure.stops_lane or operation.replayed:
            of = failure.spoilt or isinstance(failure.error, UnknownVerdict)
            self._stop(failure.error, operation if of else None)
        else:
            # its Future says so, too, but a program may never look at it
            _log.warning("%s %s %s was refused: %s", self._ledger.name, operation.kind, operation.name, failure.error)
            self._session.failed(f"{self._ledger.name}{operation.name}", operation.kind, failure.error)
            self._ledger.refuse(operation, failure.error)

    async def _fill(self, gap: Gap) -> None:
        session, ledger = self._session, self._ledger
        model_id = ledger.model_id
        assert model_id is not None
        with session.pending.track(f"{ledger.name} seq_id {gap.seq_id}", "filler", "sent") as entry:

            async def attempt() -> None:
                await operations.submit(
                    session.api,
                    operations.filler(),
                    model_id=model_id,
                    seq_id=gap.seq_id,
                    key=gap.key,
                    attempt=patience.tries,
                )

            def react(error: APIError) -> Reaction:
                return by_order(while_submitting(error), error, session.server_class, gap.seq_id, doubted=False)

            patience = session.poller().patience()
            try:
                await patience.persist(attempt, react, entry.explain)
            except OutOfPatience as gone:
                if gap not in ledger.numbers.gaps():
                    return  # its model is lost meanwhile
                if gone.reaction is Reaction.ARRIVED:
                    ledger.numbers.fill(gap)
                    return
                if gone.reaction is Reaction.RENEW:
                    self._halt(gone)
                    await ledger.until_resumed()
                    return
                if gap.doubtful and isinstance(gone.error, APIStatusError) and gone.error.status in _TAKEN:
                    ledger.numbers.fill(gap)  # by the operation itself: it had arrived
                    return
                self._stop(gap_failure(gap, gone, session.pending.lines()), None)
            else:
                ledger.numbers.fill(gap)

    def _halt(self, gone: OutOfPatience) -> None:
        if self._session.mended.value != self._mended:
            return  # it was the old credential that was refused
        _log.error("the lane of %s is halted until its credential is mended: %s", self._ledger.name, gone.error)
        self._ledger.halt(gone.error)


def _reaction_to(operation: Operation, *, saves: bool) -> Callable[[APIError], Reaction]:
    if operation.automatic:
        return while_checkpointing
    return while_saving if saves else while_submitting


def _for(operation: Operation, reaction: Reaction) -> Reaction:
    """An automatic save is not worth another model: the next one comes."""
    return Reaction.FAIL if operation.automatic and reaction in (Reaction.ARRIVED, Reaction.UNKNOWN) else reaction
