"""Acceptance: how an operation gets onto its model's ledger, in the task of whoever calls."""

from __future__ import annotations

from contextlib import suppress
from typing import final

import trio

from supervision import ActorRef, MailboxFull, NotRunning
from tinker_actors.clients.training.custom_loss import CustomLoss
from tinker_actors.clients.training.messages import Wake
from tinker_actors.clients.training.model import Model
from tinker_actors.errors import InvalidInput
from tinker_actors.ledger import Chunk, Operation, OperationKind
from tinker_actors.sessions import Session

__all__ = ["Acceptance"]


@final
class Acceptance:
    """An error means that nothing was accepted; what is accepted outlives every incarnation of the actor at ``ref``,
    which only hears that there is something to do.
    """

    def __init__(self, session: Session, model: Model, ref: ActorRef) -> None:
        self._session = session
        self._model = model
        self._ref = ref
        model.checkpoints.sent_by(self._wake)

    async def admit(
        self, kind: OperationKind, chunks: tuple[Chunk, ...], loss: CustomLoss | None = None
    ) -> Operation:
        """Wait for room, and accept. Raises LaneStopped, ClosedError or LedgerFull."""
        await trio.lowlevel.checkpoint()
        ledger, size = self._model.ledger, sum(chunk.size for chunk in chunks)
        ledger.require_accepting(kind)
        if not ledger.admission.try_enter(size):
            with self._session.pending.track(ledger.name, kind, "waiting to be accepted") as entry:
                unfinished = ledger.admission.statistics()
                entry.explain(f"behind {unfinished.count} unfinished operations of {unfinished.size:,} bytes")
                await ledger.admission.enter(size)
        # no checkpoint from here on: either the caller gets its Future, or nothing was accepted
        return self._accept(kind, chunks, loss)

    def admit_now(self, kind: OperationKind, chunks: tuple[Chunk, ...], loss: CustomLoss | None = None) -> Operation:
        """Accept. Raises InvalidInput when there is no room, and what ``admit`` raises."""
        ledger = self._model.ledger
        ledger.require_accepting(kind)
        if not ledger.admission.try_enter(sum(chunk.size for chunk in chunks)):
            raise InvalidInput(
                str(kind),
                f"{ledger.admission.statistics().count} operations wait already",
                "Await an earlier future first, or use the method without _async, which waits for room",
            )
        return self._accept(kind, chunks, loss)

    def _accept(self, kind: OperationKind, chunks: tuple[Chunk, ...], loss: CustomLoss | None) -> Operation:
        operation = self._model.ledger.accept(kind, chunks)
        if loss is not None:
            self._model.add_loss(operation.op_no, loss)
        self._model.checkpoints.after(operation)
        self._wake(operation.op_no)
        return operation

    def _wake(self, op_no: int) -> None:
        # When full, a thousand wake-ups are waiting to be read: one more would tell the lane nothing new. When the
        # place is closed, that ended the ledger, too, and what is accepted is in nobody's hands but its own.
        with suppress(MailboxFull, NotRunning):
            self._ref.cast_nowait(Wake(op_no))
