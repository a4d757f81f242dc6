"""Undecided: why a model's operations wait for its user, who alone can say how it goes on."""

from __future__ import annotations

from typing import Final

import msgspec

from tinker_actors.errors import OperationError, OutageError

__all__ = ["UNDECIDED", "Undecided"]

UNDECIDED: Final = "undecided"
"""What the list of what waits has as the state of an operation that its user is to decide on."""


class Undecided(msgspec.Struct, frozen=True):
    """``error`` is what each caller was told, ``doubtful`` the op_no of which nobody can tell whether it was applied.

    All after ``since`` wait for the decision; what came before is still asked for.
    """

    error: OperationError
    since: int
    doubtful: int | None = None

    def outage_for(self, who: str) -> OutageError | None:
        """What ``who`` gets that is no operation of the model's and needs it all the same; None: it can wait, since
        no outage is why the user is asked.
        """
        if not isinstance(self.error, OutageError):
            return None
        why, _, _ = str(self.error).partition("\n")
        text = f"{who} needs a model that waits for a decision (restore or abandon), because {why}"
        outage = OutageError(text, operation=who, pending=self.error.pending)
        outage.__cause__ = self.error
        return outage
