"""Shown: which state of a model some weights are, and how far the model has gone since."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from tinker_actors.errors import OutageError
    from tinker_actors.ledger.ledger import Ledger
    from tinker_actors.ledger.operation import Operation

__all__ = ["Shown"]


@final
class Shown:
    """The state of the model of ``ledger`` at ``operation``, a save."""

    def __init__(self, ledger: Ledger, operation: Operation) -> None:
        self._ledger = ledger
        self._updates = operation.updates
        self.name = ledger.name
        self.op_no = operation.op_no

    def outage_for(self, who: str) -> OutageError | None:
        """What ``who`` gets who waits for the model, where its user is to decide after an outage; None: it waits."""
        undecided = self._ledger.undecided
        return None if undecided is None else undecided.outage_for(who)

    @property
    def behind(self) -> int:
        """How many updates of the weights (optim_step, load_state) the model has accepted since."""
        return self._ledger.updates_since(self.op_no, self._updates)
