"""The Budget of one model: what its payloads may take of memory and disk, and what happens when that is used up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import final

from tinker_actors.errors import LedgerFull
from tinker_actors.flow.admission import Admission
from tinker_actors.ledger.history import History, in_memory
from tinker_actors.ledger.operation import Chunk, Operation, OperationKind, OperationState
from tinker_actors.ledger.spill import Crowd, Spill
from tinker_actors.ledger.spill_store import SpillStore

__all__ = ["Budget"]

_log = logging.getLogger("tinker_actors.ledger")

_TRAINED = (OperationKind.FORWARD_BACKWARD, OperationKind.FORWARD_BACKWARD_CUSTOM)
_AHEAD = 2  # operations that are about to be sent stay in memory


@final
class Budget(Crowd):
    """Payloads of operations that wait, and of those done that may have to be done again, are in memory up to the
    history's ``max_bytes``; above that they go to the disk, up to ``spill_bytes``: what was done first, then what
    waits last.

    When both are used up nothing more that trains is accepted until a checkpoint lets older ones go; or, with
    ``forget``, the oldest go, and the model can't be rebuilt until its next checkpoint. It never waits.
    """

    def __init__(
        self,
        name: str,
        history: History,
        admission: Admission,
        *,
        unfinished: Callable[[], tuple[Operation, ...]],
        replaying: Callable[[Operation], bool],
        forget: bool,
        store: SpillStore | None,
        spill_bytes: int,
    ) -> None:
        self._name = name
        self._history = history
        self._admission = admission
        self._unfinished = unfinished
        self._replaying = replaying
        self._forget = forget
        self._cut = False
        self.spill: Spill | None = None
        if store is not None and spill_bytes:
            self.spill = store.open(self, name, spill_bytes)

    @property
    def kept(self) -> int:
        """Estimated bytes of all requests that are kept, wherever they are."""
        return self._history.bytes + self._admission.size

    @property
    def limit(self) -> int:
        """How many there may be."""
        spill = self.spill
        return self._history.max_bytes + (spill.requests + spill.room if spill is not None else 0)

    @property
    def excess(self) -> int:
        """How many bytes of payloads are in memory above what may be there."""
        return self.kept - self._history.max_bytes - (self.spill.requests if self.spill is not None else 0)

    def refusal(self, kind: OperationKind, size: int) -> LedgerFull | None:
        """Why ``kind`` of ``size`` bytes, which were let in just now, is not to be accepted; None when it is."""
        kept = self.kept
        if self._forget or kind not in _TRAINED or kept == size or kept <= self.limit:
            return None
        self._history.trim(self._unfinished(), self.limit - self._admission.size)
        kept, limit = self.kept, self.limit
        if kept <= limit:
            return None
        spill = self.spill
        why = f": {spill.failure}" if spill is not None and spill.failure is not None else ""
        return LedgerFull(
            f"{kind} was not accepted: with it {kept:,} bytes of requests since the last checkpoint of {self._name} "
            f"would have to be kept for a rebuild, and there is room for {limit:,} in memory and on the disk{why}. "
            "Save the state (save_state), and go on when that is done; or allow more (recovery.replay_bytes, "
            'recovery.spill_bytes), or have the oldest forgotten (recovery.when_full="forget")',
            operation=kind,
        )

    def look(self) -> None:
        """Something was accepted or has ended."""
        if self.spill is not None:
            self.spill.look()

    def settle(self, operation: Operation) -> None:
        """``operation`` is done: let go what is not needed any more, and say so once when something goes that is."""
        enough = self._history.trim(self._unfinished(), self.limit) or not self._forget
        if not enough:
            self._history.let_go(self.limit)
        self.look()
        if not enough and not self._cut:
            self._cut = True
            _log.warning(
                "%s: more than the %d bytes that may be kept (recovery.replay_bytes, spill_bytes) were trained on "
                "since its last checkpoint. If the server loses the model now, it can't be rebuilt. Save its state "
                "more often",
                self._name,
                self.limit,
            )
        elif operation.kind is OperationKind.SAVE_STATE:
            self._cut = False

    def next_to_spill(self) -> Operation | None:
        """What of that in memory is needed last."""
        found = self._history.next_in_memory(self._replaying)
        if found is not None:
            return found
        open_ = [one for one in self._unfinished() if not one.half and in_memory(one)]
        for operation in open_:
            if operation.state is OperationState.PROMISED:
                return operation
        waiting = [one for one in open_ if one.state is OperationState.ACCEPTED]
        return waiting[-1] if len(waiting) > _AHEAD else None

    def spilled(self, operation: Operation, chunks: tuple[Chunk, ...], stored: tuple[Chunk, ...] | None) -> None:
        """``stored`` are ``chunks`` of ``operation``, their payloads on the disk; None: they could not be written."""
        # what is being sent may have to be sent again, at once
        if stored is not None and operation.chunks is chunks and operation.state is not OperationState.SENT:
            operation.chunks = stored
        else:
            self._history.again(operation)

    def close(self) -> None:
        """The model is over."""
        if self.spill is not None:
            self.spill.close()
