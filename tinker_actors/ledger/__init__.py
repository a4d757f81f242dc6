"""What was accepted, where it went, and what became of it: plain objects that outlive every client actor."""

from tinker_actors.ledger.combined import as_completed, first, gather
from tinker_actors.ledger.future import Future
from tinker_actors.ledger.history import Cover, History, HistoryStatistics
from tinker_actors.ledger.ledger import Ledger, LedgerStatistics
from tinker_actors.ledger.numbering import Gap
from tinker_actors.ledger.operation import (
    AcceptedOperation,
    Chunk,
    LocalLoss,
    Operation,
    OperationKind,
    OperationState,
    Sending,
)
from tinker_actors.ledger.rebuild import NewModel, Rebuild
from tinker_actors.ledger.shown import Shown
from tinker_actors.ledger.spill import SpillStatistics
from tinker_actors.ledger.spill_store import Spiller, SpillStore
from tinker_actors.ledger.tasks import Tasks
from tinker_actors.ledger.undecided import UNDECIDED, Undecided

__all__ = [
    "UNDECIDED",
    "AcceptedOperation",
    "Chunk",
    "Cover",
    "Future",
    "Gap",
    "History",
    "HistoryStatistics",
    "Ledger",
    "LedgerStatistics",
    "LocalLoss",
    "NewModel",
    "Operation",
    "OperationKind",
    "OperationState",
    "Rebuild",
    "Sending",
    "Shown",
    "Spiller",
    "SpillStatistics",
    "SpillStore",
    "Tasks",
    "Undecided",
    "as_completed",
    "first",
    "gather",
]
