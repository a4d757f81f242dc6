"""The Ledger of one model: what was accepted, in order, and where each operation went."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, final

import msgspec
from trio_util import AsyncValue

from tinker_actors.errors import ClosedError, LaneStopped, OperationCancelled, OperationError, TinkerError
from tinker_actors.flow.admission import Admission
from tinker_actors.flow.home import Home
from tinker_actors.flow.pending import PendingTable
from tinker_actors.ledger.future import Future
from tinker_actors.ledger.operation import (
    AcceptedOperation,
    Chunk,
    Operation,
    OperationKind,
    OperationState,
    Sending,
)
from tinker_actors.ports.spans import NO_SPANS, Spans

__all__ = ["ACCEPTED_KEPT", "Gap", "Ledger", "LedgerStatistics"]

ACCEPTED_KEPT: Final = 65_536
"""How many acceptances a ledger remembers: a job of weeks must not grow by each of its steps."""


class LedgerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of one ledger. ``next_op_no`` and ``next_seq_id`` are those to be given next."""

    next_op_no: int
    next_seq_id: int
    unfinished: int
    epoch: int


class Gap(msgspec.Struct, frozen=True):
    """A seq_id whose operation the server refused: the lane fills it, as the server waits for it."""

    seq_id: int
    key: str


@final
class Ledger:
    """A plain object on its session's place: it outlives every incarnation of the client that works it off.

    ``accept`` is synchronous, so an error means that nothing was accepted, and once it has returned the caller
    holds its Future whatever dies. Sequence ids are given at the send turn, dense from 1, and stay with their
    operation for every re-send.
    """

    def __init__(
        self,
        name: str,
        pending: PendingTable,
        new_key: Callable[[], str],
        *,
        max_pending: int,
        max_pending_bytes: int,
        spans: Spans = NO_SPANS,
    ) -> None:
        self.name = name
        self.admission = Admission(max_pending, max_pending_bytes)
        self.model_id: str | None = None
        self.epoch = 0
        self._home = Home()
        self._pending = pending
        self._spans = spans
        self._new_key = new_key
        self._next_op_no = 1
        self._next_seq_id = 1
        self._unfinished: dict[int, Operation] = {}
        self._unsent: dict[int, Operation] = {}  # those of them that are not wholly promised, in order
        self._accepted: deque[AcceptedOperation] = deque(maxlen=ACCEPTED_KEPT)
        self._gaps: list[Gap] = []
        self._stopped: TinkerError | None = None
        self.halted: AsyncValue[TinkerError | None] = AsyncValue(None)
        """Why nothing is sent or asked for now although everything is kept; None while work goes on."""

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

    def accept(self, kind: OperationKind, chunks: tuple[Chunk, ...]) -> Operation:
        """Accept an operation that ``admission`` has let in.

        Raises LaneStopped when an earlier failure stopped or halted this lane, ClosedError when its client was
        closed; the admission is given back.
        """
        size = sum(chunk.size for chunk in chunks)
        if (why := self._stopped or self.halted.value) is not None:
            self.admission.release(size)
            if isinstance(why, ClosedError):
                raise ClosedError(f"{kind} was not accepted: {why}")
            verb = "has stopped" if self._stopped is not None else "is halted"
            raise LaneStopped(
                f"{kind} was not accepted: the lane of {self.name} {verb}, because {why}",
                operation=kind,
            ) from why
        op_no = self._next_op_no
        self._next_op_no += 1
        entry = self._pending.open(f"{self.name}#{op_no}", kind, OperationState.ACCEPTED)
        operation = Operation(
            op_no,
            kind,
            chunks,
            Future(lambda: str(entry.snapshot()), lambda: self._cancel(op_no), self._home),
            entry,
            span=self._spans.begin(kind, {"tinker.operation": entry.name, "tinker.model_id": self.model_id or ""}),
        )
        operation.span.enter("queue")
        if self._unsent:
            entry.enter(
                OperationState.ACCEPTED, f"behind {next(reversed(self._unsent.values())).name}", expected=True
            )
        self._unfinished[op_no] = self._unsent[op_no] = operation
        self._accepted.append(AcceptedOperation(op_no, kind, tuple(chunk.digest for chunk in chunks)))
        return operation

    def next_to_send(self) -> Operation | None:
        """The first operation that is not wholly promised: the one whose send turn it is."""
        return next(iter(self._unsent.values()), None)

    def start_sending(self, operation: Operation) -> Sending:
        """Give ``operation`` its seq_ids; a re-send finds the ones that it has."""
        assert self.model_id is not None, "a lane runs after its model was created"
        sending = operation.sending
        if sending is None:
            count = len(operation.chunks)
            sending = operation.sending = Sending(
                epoch=self.epoch,
                model_id=self.model_id,
                first_seq_id=self._next_seq_id,
                keys=tuple(self._new_key() for _ in range(count)),
                request_ids=[None] * count,
                results=[None] * count,
                doubts=[False] * count,
                roundtrips=[None] * count,
            )
            self._next_seq_id += count
        self._enter(operation, OperationState.SENT)
        operation.span.enter("send")
        return sending

    def promise(self, operation: Operation, chunk: int, request_id: str) -> None:
        """The server has promised the result of one chunk under ``request_id``."""
        assert operation.sending is not None
        operation.sending.request_ids[chunk] = request_id
        if operation.sending.complete:
            self._unsent.pop(operation.op_no, None)
            self._enter(operation, OperationState.PROMISED)
            operation.span.enter("poll")

    def deliver(self, operation: Operation, chunk: int, result: object) -> None:
        """Keep the result of one chunk."""
        assert operation.sending is not None
        operation.sending.results[chunk] = result

    def finish(self, operation: Operation, result: Any) -> None:
        """The operation has its result."""
        self._end(operation, OperationState.DONE)
        operation.future.resolve(result)

    def fail(self, operation: Operation, error: TinkerError) -> None:
        """The operation ended with ``error``; those behind it go on."""
        self._end(operation, OperationState.FAILED, error)
        operation.future.reject(error)

    def refuse(self, operation: Operation, error: TinkerError) -> None:
        """The server refused every chunk: the operation fails, and its seq_ids are gaps to be filled."""
        sending = operation.sending
        assert sending is not None
        assert not any(sending.request_ids), "a promised chunk can't be filled"
        self._gaps.extend(Gap(sending.first_seq_id + i, self._new_key()) for i in range(len(sending.keys)))
        self.fail(operation, error)

    def gaps(self) -> tuple[Gap, ...]:
        """Seq_ids to be filled before the next operation is sent."""
        return tuple(self._gaps)

    def fill(self, gap: Gap) -> None:
        """``gap`` has been filled."""
        self._gaps.remove(gap)

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
                operation.entry.explain("")

    def stop(self, error: TinkerError, *, state: OperationState = OperationState.FAILED) -> None:
        """The lane stops: everything unfinished ends with ``error`` and nothing more is accepted."""
        if self._stopped is None:
            self._stopped = error
        self._gaps.clear()
        self.halted.value = None
        for operation in self.unfinished():
            self._end(operation, state, error)
            operation.future.reject(error)

    def statistics(self) -> LedgerStatistics:
        """Numbers for people and tests."""
        return LedgerStatistics(
            next_op_no=self._next_op_no,
            next_seq_id=self._next_seq_id,
            unfinished=len(self._unfinished),
            epoch=self.epoch,
        )

    def _cancel(self, op_no: int) -> bool:
        operation = self._unfinished.get(op_no)
        if operation is None or operation.state is not OperationState.ACCEPTED:
            return False
        error: OperationError = OperationCancelled(
            f"{operation.kind} {operation.name} was cancelled before it was sent", operation=operation.name
        )
        self._end(operation, OperationState.CANCELLED, error)
        operation.future.reject(error)
        return True

    def _enter(self, operation: Operation, state: OperationState) -> None:
        operation.state = state
        operation.entry.enter(state)

    def _end(self, operation: Operation, state: OperationState, error: TinkerError | None = None) -> None:
        del self._unfinished[operation.op_no]
        self._unsent.pop(operation.op_no, None)
        self._enter(operation, state)
        self._pending.close(operation.entry)
        operation.span.end(error)
        self.admission.release(operation.size)
        operation.chunks = ()  # lets the payload go
