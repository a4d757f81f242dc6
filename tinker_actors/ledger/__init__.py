"""What was accepted, where it went, and what became of it: plain objects that outlive every client actor."""

from tinker_actors.ledger.combined import as_completed, first, gather
from tinker_actors.ledger.future import Future
from tinker_actors.ledger.ledger import Gap, Ledger, LedgerStatistics
from tinker_actors.ledger.operation import (
    AcceptedOperation,
    Chunk,
    Operation,
    OperationKind,
    OperationState,
    Sending,
)
from tinker_actors.ledger.tasks import Tasks

__all__ = [
    "AcceptedOperation",
    "Chunk",
    "Future",
    "Gap",
    "Ledger",
    "LedgerStatistics",
    "Operation",
    "OperationKind",
    "OperationState",
    "Sending",
    "Tasks",
    "as_completed",
    "first",
    "gather",
]
