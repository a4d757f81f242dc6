"""The Ledger of one model: what was accepted, in order, and where each operation went."""

from __future__ import annotations

import logging
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Literal, final

import msgspec
from trio_util import AsyncValue, wait_any  # pyright: ignore[reportUnknownVariableType]  # its own gap

from tinker_actors.errors import (
    ClosedError,
    InvalidInput,
    LaneStopped,
    OperationCancelled,
    OperationError,
    TinkerError,
    UnknownVerdict,
)
from tinker_actors.flow.admission import Admission
from tinker_actors.flow.home import Home
from tinker_actors.flow.pending import PendingEntry, PendingTable
from tinker_actors.ledger.budget import Budget
from tinker_actors.ledger.future import Future
from tinker_actors.ledger.history import UPDATES, Cover, History
from tinker_actors.ledger.numbering import Numbering
from tinker_actors.ledger.operation import (
    AcceptedOperation,
    Chunk,
    LocalLoss,
    Operation,
    OperationKind,
    OperationState,
    Sending,
)
from tinker_actors.ledger.outcome import check_sum
from tinker_actors.ledger.rebuild import Rebuild
from tinker_actors.ledger.spill import SpillStatistics
from tinker_actors.ledger.spill_store import SpillStore
from tinker_actors.ledger.undecided import UNDECIDED, Undecided
from tinker_actors.ports.spans import NO_SPANS, Spans

_log = logging.getLogger("tinker_actors.ledger")

__all__ = ["ACCEPTED_KEPT", "Ledger", "LedgerStatistics"]

ACCEPTED_KEPT: Final = 65_536
"""How many acceptances a ledger remembers: a job of weeks must not grow by each of its steps."""
_LOST: Final = "its model is lost"


class LedgerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of one ledger. ``next_op_no`` and ``next_seq_id`` are those to be given next."""

    next_op_no: int
    next_seq_id: int
    unfinished: int
    epoch: int


@final
class Ledger:
    """A plain object on its session's place: it outlives every incarnation of the client that works it off.

    ``accept`` is synchronous, so an error means that nothing was accepted, and once it has returned the caller
    holds its Future whatever dies. Sequence ids are given at the send turn, dense from 1, and stay with their
    operation for every re-send.

    With a model that the server has lost a new *epoch* begins (``lose``): another model takes its place in a state
    that ``covers`` names, what was done after that is applied again (``resume_from``), and what has not finished
    follows in its order, all under new seq_ids. With ``replay_bytes`` None nothing is kept for that; what is beyond
    them goes to the ``store``, up to ``spill_bytes``, and beyond that as ``when_full`` says.
    """

    def __init__(
        self,
        name: str,
        pending: PendingTable,
        new_key: Callable[[], str],
        *,
        max_pending: int,
        max_pending_bytes: int,
        replay_bytes: int | None = None,
        store: SpillStore | None = None,
        spill_bytes: int = 0,
        when_full: Literal["refuse", "forget"] = "forget",
        spans: Spans = NO_SPANS,
    ) -> None:
        self.name = name
        self.admission = Admission(max_pending, max_pending_bytes)
        self.model_id: str | None = None
        self.epoch = 0
        self.generation = 0
        """Of the session that the model was made in."""
        self._home = Home()
        self._pending = pending
        self._spans = spans
        self._new_key = new_key
        self.numbers = Numbering(new_key)
        """The seq_ids of the present model."""
        self._next_op_no = 1
        self._unfinished: dict[int, Operation] = {}
        self._unsent: dict[int, Operation] = {}  # those of them that are not wholly promised, in order
        self._accepted: deque[AcceptedOperation] = deque(maxlen=ACCEPTED_KEPT)
        self._replaying: dict[int, Operation] = {}
        self._history = None if replay_bytes is None else History(replay_bytes)
        self._budget: Budget | None = None
        if self._history is not None:
            self._budget = Budget(
                name,
                self._history,
                self.admission,
                unfinished=self.unfinished,
                replaying=lambda operation: operation.op_no in self._replaying,
                forget=when_full == "forget",
                store=store,
                spill_bytes=spill_bytes,
            )
        self._updates = 0
        self._undone: list[int] = []
        self._ends: AsyncValue[int] = AsyncValue(0)
        """How many operations have ended."""
        self._losses = 0
        self.rebuild: Rebuild | None = None
        """The model on its way back; None while there is one, or none is to be had."""
        self._there: AsyncValue[bool] = AsyncValue(value=True)
        """False while the server has lost the model, and there is no other yet."""
        self.differing = 0
        """Operations that have given something else when they were applied again."""
        self._stopped: TinkerError | None = None
        self.halted: AsyncValue[TinkerError | None] = AsyncValue(None)
        """Why nothing is sent or asked for now although everything is kept; None while work goes on."""
        self._undecided: AsyncValue[Undecided | None] = AsyncValue(None)
        self._abandoned = False
        self.decisions = 0
        """How often its user has decided how to go on."""

    @property
    def accepted(self) -> tuple[AcceptedOperation, ...]:
        """The latest acceptances, up to ``ACCEPTED_KEPT``, in order; cancelled ones included."""
        return tuple(self._accepted)

    @property
    def stopped(self) -> TinkerError | None:
        """Why the lane takes no more operations; None while it does."""
        return self._stopped

    def unfinished(self) -> tuple[Operation, ...]:
        """Operations without result, error or verdict, in order of acceptance."""
        return tuple(self._unfinished.values())

    def find(self, op_no: int) -> Operation | None:
        """The unfinished operation ``op_no``; None when it has ended."""
        return self._unfinished.get(op_no)

    @property
    def lost(self) -> Rebuild | None:
        """The rebuild of a model that is not there yet."""
        return self.rebuild if self.rebuild is not None and not self.rebuild.resumed else None

    @property
    def losses(self) -> int:
        """Epochs that have begun since an operation has finished."""
        return self._losses

    @property
    def history(self) -> History | None:
        """What is kept to be applied again; None: nothing."""
        return self._history

    @property
    def replay_bytes(self) -> int | None:
        """How many bytes of requests may be kept to be applied again; None: nothing is."""
        return None if self._history is None else self._history.max_bytes

    def spilled(self) -> SpillStatistics:
        """What of it is on the disk."""
        spill = None if self._budget is None else self._budget.spill
        return SpillStatistics(requests=0, bytes=0, files=0) if spill is None else spill.statistics()

    def open_operations(self) -> tuple[Operation, ...]:
        """What is to be sent or polled: unfinished operations, and those that are being applied again."""
        return (*self._replaying.values(), *self._unfinished.values())

    def at(self, operation: Operation, sending: Sending) -> bool:
        """Whether ``operation`` is still to give a result, and where ``sending`` says."""
        known = self._unfinished.get(operation.op_no) or self._replaying.get(operation.op_no)
        return known is operation and operation.sending is sending

    def accept(self, kind: OperationKind, chunks: tuple[Chunk, ...], *, automatic: bool = False) -> Operation:
        """Accept an operation that ``admission`` has let in, or an ``automatic`` one, which needs no room.

        Raises LaneStopped when an earlier failure stopped or halted this lane, ClosedError when its client was
        closed, LedgerFull when it could not be kept for a rebuild; the admission is given back.
        """
        size = sum(chunk.size for chunk in chunks)
        try:
            self.require_accepting(kind)
        except (OperationError, ClosedError):
            if not automatic:
                self.admission.release(size)
            raise
        if self._budget is not None and (full := self._budget.refusal(kind, size)) is not None:
            self.admission.release(size)
            raise full
        op_no = self._next_op_no
        self._next_op_no += 1
        entry = self._pending.open(f"{self.name}#{op_no}", kind, OperationState.ACCEPTED)
        operation = Operation(
            op_no,
            kind,
            chunks,
            self._future(op_no, entry),
            entry,
            span=self._spans.begin(kind, {"tinker.operation": entry.name, "tinker.model_id": self.model_id or ""}),
            automatic=automatic,
        )
        operation.span.enter("queue")
        if self._unsent:
            entry.enter(
                OperationState.ACCEPTED, f"behind {next(reversed(self._unsent.values())).name}", expected=True
            )
        elif (lost := self.lost) is not None:
            entry.explain(f"its model is being rebuilt: {lost.cause}")
        self._unfinished[op_no] = self._unsent[op_no] = operation
        if kind in UPDATES:
            self._updates += 1
        operation.updates = self._updates
        self._accepted.append(AcceptedOperation(op_no, kind, tuple(chunk.digest for chunk in chunks)))
        if self._budget is not None:
            self._budget.look()
        return operation

    def require_accepting(self, kind: OperationKind) -> None:
        """Raises LaneStopped or ClosedError, as ``accept`` does."""
        undecided = self._undecided.value
        why = self._stopped or (undecided and undecided.error) or self.halted.value
        if why is None:
            return
        if isinstance(why, ClosedError):
            raise ClosedError(f"{kind} was not accepted: {why}")
        if self._abandoned:
            raise LaneStopped(
                f"{kind} was not accepted: the model of {self.name} was given up (abandon), since {_in_short(why)}. "
                "Create a new client and load the last checkpoint",
                operation=kind,
            ) from why
        verb = "is halted"
        if self._stopped is not None:
            verb = "has stopped"
        elif undecided is not None:
            verb = "waits for a decision (restore, assume_applied or abandon)"
        raise LaneStopped(
            f"{kind} was not accepted: the lane of {self.name} {verb}, because {why}",
            operation=kind,
        ) from why

    def updates_since(self, op_no: int, updates: int) -> int:
        """How many updates of the weights were accepted after ``op_no``, which came after ``updates`` of them, and
        have not failed.
        """
        return self._updates - updates - (len(self._undone) - bisect_right(self._undone, op_no))

    def next_to_send(self) -> Operation | None:
        """The first operation that is not wholly promised: the one whose send turn it is."""
        return next(iter(self._unsent.values()), None)

    async def recall(self, operation: Operation) -> None:
        """Have the data of ``operation`` in memory, for its send turn. Raises DiskError where it can't be had."""
        spill = None if self._budget is None else self._budget.spill
        assert spill is not None
        chunks = operation.chunks
        read = tuple([await spill.read(chunk) if chunk.away else chunk for chunk in chunks])
        if operation.chunks is chunks:
            operation.chunks = read

    def unreadable(self, operation: Operation, error: TinkerError) -> None:
        """``operation``, which was not sent to the present model, fails: its data can't be had any more."""
        if self._history is not None:  # an earlier model may have done it
            self._history.distrust(operation.op_no)
        self.fail(operation, error)

    def start_sending(self, operation: Operation) -> Sending:
        """Give ``operation`` its seq_ids; a re-send finds the ones that it has."""
        assert self.model_id is not None, "a lane runs after its model was created"
        sending = operation.sending
        if sending is None:
            count = len(operation.chunks)
            sending = operation.sending = Sending(
                epoch=self.epoch,
                model_id=self.model_id,
                generation=self.generation,
                first_seq_id=self.numbers.take(count),
                keys=tuple(self._new_key() for _ in range(count)),
                request_ids=[None] * count,
                results=[None] * count,
                doubts=[False] * count,
                roundtrips=[None] * count,
            )
        self._enter(operation, OperationState.SENT)
        operation.span.enter("send")
        return sending

    def promise(self, operation: Operation, chunk: int, request_id: str) -> None:
        """The server has promised the result of one chunk under ``request_id``."""
        assert operation.sending is not None
        operation.sending.request_ids[chunk] = request_id
        if operation.sending.complete:
            if not operation.half:  # whose turn lasts until its backward pass is promised, too
                self._unsent.pop(operation.op_no, None)
            self._enter(operation, OperationState.PROMISED)
            operation.span.enter("poll")
            if any(chunk.stored is not None for chunk in operation.chunks):  # it is on the disk still
                operation.chunks = tuple(
                    chunk if chunk.stored is None else msgspec.structs.replace(chunk, data=None)
                    for chunk in operation.chunks
                )

    def deliver(self, operation: Operation, chunk: int, result: object) -> None:
        """Keep the result of one chunk."""
        assert operation.sending is not None
        operation.sending.results[chunk] = result

    def differentiate(self, operation: Operation, chunks: tuple[Chunk, ...], local: LocalLoss) -> None:
        """A custom loss has its gradient: ``chunks`` are its backward pass, under the next seq_ids. Its function is
        never called again.
        """
        operation.chunks = chunks
        operation.local = local
        operation.sending = None
        operation.span.enter("queue")
        self._enter(operation, OperationState.ACCEPTED)

    def finish(self, operation: Operation, result: Any) -> bool:
        """The operation has its result; False when it had another one before, from a lost model."""
        if operation.replayed:
            return self._finish_replay(operation, result)
        self._losses = 0
        future, history = operation.future, self._history
        if history is None:
            self._end(operation, OperationState.DONE)
        else:
            chunks = operation.chunks
            self._end(operation, OperationState.DONE)
            self._keep(history, operation, chunks, result)
        future.resolve(result)
        return True

    def fail(self, operation: Operation, error: TinkerError) -> None:
        """The operation ended with ``error``; those behind it go on."""
        self._end(operation, OperationState.FAILED, error)
        operation.future.reject(error)

    def lose(self, cause: str, *, spoilt: Operation | None = None, error: TinkerError | None = None) -> Rebuild:
        """The server has lost the model: what has not finished goes to another one, which ``rebuild`` is about.

        ``spoilt``, which was done in part, ends with ``error``: the new model goes on from a state without it.
        """
        assert self._history is not None
        if spoilt is not None:
            assert error is not None
            self._history.distrust(spoilt.op_no)
            self.fail(spoilt, error)
        entry = self.rebuild.entry if self.rebuild is not None else None
        if entry is None:
            entry = self._pending.open(self.name, "rebuild", _LOST)
        entry.explain(cause)
        self.rebuild = Rebuild(cause=cause, attempt=self._losses, entry=entry)
        self._losses += 1
        self._there.value = False
        self.epoch += 1
        self.numbers.clear()
        self._drop_replays()
        for operation in self._unfinished.values():
            operation.leave()
            operation.span.enter("queue")
            self._enter(operation, OperationState.ACCEPTED)
            operation.entry.explain(f"its model is being rebuilt: {cause}")
        self._unsent = dict(self._unfinished)
        return self.rebuild

    def covers(self) -> tuple[Cover, ...]:
        """The states from which the model can be rebuilt, the newest first."""
        return () if self._history is None else self._history.covers(self.unfinished())

    def begin(self, model_id: str, generation: int, next_seq_id: int = 1) -> None:
        """The server has created the model, in the session of ``generation``; ``next_seq_id`` is due."""
        self.model_id = model_id
        self.generation = generation
        self.numbers.begin(next_seq_id)

    def resume_from(self, model_id: str, generation: int, next_seq_id: int, replays: tuple[Operation, ...]) -> None:
        """``model_id`` takes the place of the lost one: apply ``replays`` to it, and what has not finished."""
        assert self.rebuild is not None
        self.begin(model_id, generation, next_seq_id)
        self.rebuild.resumed = True
        self._there.value = True
        self.rebuild.replays = len(replays)
        for operation in replays:
            operation.sending = None
            operation.entry = self._pending.open(
                f"{self.name}{operation.name}", f"replay of {operation.kind}", OperationState.ACCEPTED
            )
            operation.entry.enter(OperationState.ACCEPTED, "after the operations before it", expected=True)
            operation.state = OperationState.ACCEPTED
            self._replaying[operation.op_no] = operation
        again = {**self._replaying, **self._unfinished}
        self._unsent = {number: again[number] for number in sorted(again)}
        self._show_progress()

    def switch(self, model_id: str, generation: int, next_seq_id: int) -> None:
        """``model_id`` goes on from here, in the place of a model that has nothing left to do."""
        self.epoch += 1
        self.numbers.clear()
        self.begin(model_id, generation, next_seq_id)

    async def until_there(self, who: str) -> None:
        """Wait until another model has taken the place of a lost one, or none will.

        Raises OutageError, which names ``who``, while its user is to decide on that after an outage.
        """
        while not self._there.value:
            undecided = self._undecided.value
            if undecided is not None and (outage := undecided.outage_for(who)) is not None:
                raise outage
            await wait_any(self._there.wait_transition, self._undecided.wait_transition)  # pyright: ignore[reportUnknownMemberType]  # as below

    async def until_ended(self, operation: Operation) -> None:
        """Wait until ``operation`` has its result, or will have none."""
        while operation in (self._unfinished.get(operation.op_no), self._replaying.get(operation.op_no)):
            await self._ends.wait_transition()  # pyright: ignore[reportUnknownMemberType]  # trio-util's own gap

    def refuse(self, operation: Operation, error: TinkerError) -> None:
        """The server refused every chunk: the operation fails, and its seq_ids are gaps to be filled."""
        self.leave_gap(operation)
        self.fail(operation, error)

    def leave_gap(self, operation: Operation) -> None:
        """The seq_ids of ``operation``, which the server has not taken, are to be filled."""
        assert operation.sending is not None
        self.numbers.leave(operation.sending)

    def halt(self, error: TinkerError) -> None:
        """Nothing is sent or asked for until ``resume``; what was accepted is kept, its Futures stay open."""
        if self._stopped is None and self.halted.value is None:
            self.halted.value = error
            for operation in self._unfinished.values():
                operation.entry.explain(f"halted: {error}")

    async def until_resumed(self) -> None:
        """Wait while the lane is halted."""
        await self.halted.wait_value(None)  # pyright: ignore[reportUnknownMemberType]  # trio-util's own gap

    def resume(self) -> None:
        """Go on after what halted the lane was mended."""
        if self.halted.value is not None:
            self.halted.value = None
            for operation in self._unfinished.values():
                if not self.suspended(operation):
                    operation.entry.explain("")

    @property
    def undecided(self) -> Undecided | None:
        """What the user is to decide; None while all goes on by itself."""
        return self._undecided.value

    def suspended(self, operation: Operation) -> bool:
        """Whether ``operation`` waits for the user's decision."""
        undecided = self._undecided.value
        return undecided is not None and operation.op_no > undecided.since

    def suspend(self, error: OperationError, doubtful: Operation | None = None) -> None:
        """Ask the user: those who wait get ``error``, and what was accepted is kept.

        With ``doubtful`` those before it, which are promised, are still asked for.
        """
        known = self._undecided.value
        since = 0 if doubtful is None else doubtful.op_no - 1
        if known is not None:
            since, error = min(since, known.since), known.error
        waiting = [operation for operation in self._unfinished.values() if operation.op_no > since]
        told = [operation for operation in waiting if not self.suspended(operation)]
        number = known.doubtful if known is not None else None
        if doubtful is not None:
            number = doubtful.op_no
            doubtful.state = OperationState.VERDICT
        self._undecided.value = Undecided(error, since, number)
        why = f"until restore, assume_applied or abandon: {_in_short(error)}"
        for operation in waiting:
            operation.entry.enter(OperationState.VERDICT if operation.op_no == number else UNDECIDED, why)
        if self.rebuild is not None and since == 0:
            for entry in (self.rebuild.entry, *(operation.entry for operation in self._replaying.values())):
                entry.enter(UNDECIDED, why)
        futures = [operation.future for operation in told]
        for operation in told:
            operation.wait_anew(self._future(operation.op_no, operation.entry))
        self.admission.dismiss()
        for future in futures:  # whoever hears of it may decide at once
            future.reject(error)

    async def until_decided(self) -> None:
        """Wait while the user is to decide."""
        await self._undecided.wait_value(None)  # pyright: ignore[reportUnknownMemberType]  # trio-util's own gap

    def restore(self) -> tuple[Future[Any], ...]:
        """Decide that nothing of what is in doubt counts: the model is left behind, if there is any such thing.

        Gives Futures for those that wait. Raises InvalidInput when there is nothing to decide, or nothing was kept.
        """
        undecided = self._require_undecided("restore")
        if undecided.doubtful is not None and self._history is None:
            raise InvalidInput(
                "restore", "is not possible: without recovery nothing is kept", "Use assume_applied() or abandon()"
            )
        futures = self._decide(undecided)
        if undecided.doubtful is not None:
            self._losses = 0
            self.lose(_in_short(undecided.error))
        return futures

    def assume_applied(self) -> tuple[Future[Any], ...]:
        """Decide that what is in doubt took effect: those behind it go on, and it has no result.

        Gives Futures for those that wait. Raises InvalidInput when nothing is in doubt.
        """
        undecided = self._require_undecided("assume_applied")
        if undecided.doubtful is None:
            raise InvalidInput("assume_applied", "is not possible: nothing is in doubt", "Use restore() or abandon()")
        self.take_for_applied(self._unfinished[undecided.doubtful])
        return self._decide(undecided, undecided.doubtful)

    def take_for_applied(self, operation: Operation) -> None:
        """What may have arrived of ``operation`` has; the rest of it is still to be sent."""
        sending = operation.sending
        assert sending is not None
        for index, request_id in enumerate(sending.request_ids):
            if request_id is None and sending.doubts[index]:
                sending.assumed.add(index)
        self._enter(operation, OperationState.SENT)
        if not sending.missing() or operation.half:
            self.assume(operation)

    def assume(self, operation: Operation) -> None:
        """``operation`` counts as done, as its user says, and will have no result."""
        error = UnknownVerdict(
            f"{operation.kind} {operation.name} is assumed to have been applied, and has no result",
            operation=operation.name,
        )
        chunks, future = operation.chunks, operation.future
        applied = not operation.half
        self._end(operation, OperationState.VERDICT, error, undone=not applied)
        if self._history is not None and applied:
            self._keep(self._history, operation, chunks, None)
        future.reject(error)

    def abandon(self) -> None:
        """Decide that the model is given up: what waits ends with the error. Raises InvalidInput as ``restore``."""
        undecided = self._require_undecided("abandon")
        self.decisions += 1
        self._abandoned = True
        self.stop(undecided.error, state=OperationState.VERDICT)

    def _require_undecided(self, what: str) -> Undecided:
        undecided = self._undecided.value
        if isinstance(self._stopped, ClosedError):
            raise ClosedError(f"{what} was not done: {self._stopped}")
        if undecided is None:
            raise InvalidInput(what, "there is nothing to decide", "Call it when an operation ends in such an error")
        return undecided

    def _decide(self, undecided: Undecided, assumed: int | None = None) -> tuple[Future[Any], ...]:
        self._undecided.value = None
        self.decisions += 1
        waiting = [operation for operation in self._unfinished.values() if operation.op_no > undecided.since]
        for operation in waiting:
            if operation.state is OperationState.VERDICT:
                operation.state = OperationState.SENT
            self._enter(operation, operation.state)
            if self.lost is not None:
                operation.entry.explain(f"its model is being rebuilt: {self.lost.cause}")
        if self.rebuild is not None and undecided.since == 0:
            self.rebuild.entry.enter(_LOST, self.rebuild.cause)
            for operation in self._replaying.values():
                self._enter(operation, operation.state)
            if self.rebuild.resumed:
                self._show_progress()
        asked = [one for one in waiting if not one.automatic and one.op_no != assumed]
        return tuple([operation.future for operation in asked])

    def stop(self, error: TinkerError, *, state: OperationState = OperationState.FAILED) -> None:
        """The lane stops: everything unfinished ends with ``error`` and nothing more is accepted."""
        if self._stopped is None:
            self._stopped = error
        self.numbers.clear()
        self._drop_replays()
        self._close_rebuild()
        self._there.value = True
        if self._history is not None:
            self._history.clear()
        if self._budget is not None:
            self._budget.close()
        self.halted.value = None
        self._undecided.value = None
        for operation in self.unfinished():
            self._end(operation, state, error)
            operation.future.reject(error)

    def statistics(self) -> LedgerStatistics:
        """Numbers for people and tests."""
        return LedgerStatistics(
            next_op_no=self._next_op_no,
            next_seq_id=self.numbers.due,
            unfinished=len(self._unfinished),
            epoch=self.epoch,
        )

    def _keep(self, history: History, operation: Operation, chunks: tuple[Chunk, ...], result: Any) -> None:
        operation.settle()
        if history.done(operation, chunks, result):
            assert self._budget is not None
            self._budget.settle(operation)

    def _finish_replay(self, operation: Operation, result: Any) -> bool:
        del self._replaying[operation.op_no]
        self._unsent.pop(operation.op_no, None)
        self._enter(operation, OperationState.DONE)
        self._pending.close(operation.entry)
        self._ends.value += 1
        self._show_progress()
        if self._history is not None:
            self._history.again(operation)
        outcome = check_sum(result)
        if outcome == operation.outcome:
            return True
        if operation.outcome is None:  # it was assumed to have been done, and has had no result so far
            operation.outcome = outcome
            return True
        operation.outcome = outcome
        self.differing += 1
        return False

    def _show_progress(self) -> None:
        if (rebuild := self.rebuild) is None:
            return
        if not self._replaying:
            self._close_rebuild()
            return
        done = rebuild.replays - len(self._replaying)
        rebuild.explain(f"replaying {done + 1} of {rebuild.replays}, since {rebuild.cause}")

    def _drop_replays(self) -> None:
        for operation in self._replaying.values():
            self._enter(operation, OperationState.DONE)
            self._pending.close(operation.entry)
            if self._history is not None:
                self._history.again(operation)
        self._replaying.clear()

    def _close_rebuild(self) -> None:
        if self.rebuild is not None:
            self._pending.close(self.rebuild.entry)
            self.rebuild = None

    def _cancel(self, op_no: int) -> bool:
        operation = self._unfinished.get(op_no)
        if operation is None or operation.state is not OperationState.ACCEPTED:
            return False
        if self._history is not None:  # an earlier model may have done it
            self._history.distrust(op_no)
        error: OperationError = OperationCancelled(
            f"{operation.kind} {operation.name} was cancelled before it was sent", operation=operation.name
        )
        self._end(operation, OperationState.CANCELLED, error)
        operation.future.reject(error)
        return True

    def _enter(self, operation: Operation, state: OperationState) -> None:
        operation.state = state
        operation.entry.enter(state)

    def _future(self, op_no: int, entry: PendingEntry) -> Future[Any]:
        return Future(lambda: str(entry.snapshot()), lambda: self._cancel(op_no), self._home)

    def _end(
        self,
        operation: Operation,
        state: OperationState,
        error: TinkerError | None = None,
        *,
        undone: bool | None = None,
    ) -> None:
        del self._unfinished[operation.op_no]
        self._unsent.pop(operation.op_no, None)
        self._enter(operation, state)
        self._pending.close(operation.entry)
        self._ends.value += 1
        operation.span.end(error)
        if not operation.automatic:
            self.admission.release(operation.admitted)
        undone = state is not OperationState.DONE if undone is None else undone
        if operation.kind in UPDATES and undone:
            insort(self._undone, operation.op_no)
        operation.chunks = ()  # lets the payload go


def _in_short(error: TinkerError) -> str:
    return str(error).partition(":")[0]
