"""The ledger while its user is to decide."""

from __future__ import annotations

from typing import Any

import pytest

from supervision.testing import run_seeded
from tinker_actors.clients.training.operations import optim_chunk
from tinker_actors.errors import InvalidInput, LaneStopped, OutageError, UnknownVerdict
from tinker_actors.flow.pending import PendingTable
from tinker_actors.ledger import UNDECIDED, Future, Ledger, Operation, OperationKind, OperationState
from tinker_actors.types import AdamParams

KIND = OperationKind.OPTIM_STEP
ERROR = UnknownVerdict("can't be known: as it is")


def accepted(ledger: Ledger, count: int) -> list[Operation]:
    chunk = optim_chunk(AdamParams())
    assert all(ledger.admission.try_enter(chunk.size) for _ in range(count))
    return [ledger.accept(KIND, (chunk,)) for _ in range(count)]


def made(*, kept: bool = True) -> Ledger:
    replay_bytes = 1_000_000 if kept else None
    ledger = Ledger(
        "m", PendingTable(), lambda: "key", max_pending=9, max_pending_bytes=9999, replay_bytes=replay_bytes
    )
    ledger.begin("model", 0)
    return ledger


def in_doubt(ledger: Ledger, count: int = 3) -> list[Operation]:
    """``count`` operations, of which the second is in doubt."""
    operations = accepted(ledger, count)
    ledger.start_sending(operations[0])
    ledger.promise(operations[0], 0, "first")
    ledger.start_sending(operations[1]).doubts[0] = True
    ledger.suspend(ERROR, operations[1])
    return operations


def test_those_from_the_doubtful_one_on_are_told_and_kept():
    async def story() -> None:
        ledger = made()
        old = [operation.future for operation in accepted(ledger, 1)]
        operations = in_doubt(ledger)
        told = [operation.state for operation in operations]
        assert told == [OperationState.PROMISED, OperationState.VERDICT, OperationState.ACCEPTED]
        assert [operation.entry.state for operation in operations] == ["promised", "verdict", UNDECIDED]
        assert [ledger.suspended(operation) for operation in operations] == [False, True, True]
        assert not old[0].done()
        assert len(ledger.unfinished()) == 4
        with pytest.raises(LaneStopped, match="waits for a decision"):
            ledger.require_accepting(KIND)

    run_seeded(story, seed=1)


def test_a_second_trouble_is_told_to_the_rest_and_changes_nothing_else():
    async def story() -> None:
        ledger = made()
        first, *others = in_doubt(ledger)
        waiting, waits_anew = first.future, [operation.future for operation in others]
        ledger.suspend(OutageError("out"))
        assert await waiting.exception() is ERROR
        assert not any(future.done() for future in waits_anew)
        assert ledger.undecided is not None
        assert (ledger.undecided.doubtful, ledger.undecided.since) == (2, 0)
        assert len(ledger.assume_applied()) == 2

    run_seeded(story, seed=1)


def test_what_is_assumed_counts_as_an_update():
    async def story() -> None:
        ledger = made()
        in_doubt(ledger)
        ledger.assume_applied()
        assert ledger.updates_since(0, 0) == 3
        assert ledger.history is not None
        assert [operation.op_no for operation in ledger.history.since(0)] == [2]
        assert ledger.next_to_send() is ledger.find(3)

    run_seeded(story, seed=1)


def test_restoring_sends_all_anew_and_abandoning_nothing():
    async def story() -> None:
        ledger = made()
        operations = in_doubt(ledger)
        assert len(ledger.restore()) == 2
        assert ledger.lost is not None
        assert ledger.next_to_send() is operations[0]
        assert all(operation.sending is None for operation in operations)
        gone = made()
        behind = in_doubt(gone)
        futures = [operation.future for operation in behind]
        gone.abandon()
        assert [await future.exception() for future in futures] == [ERROR] * 3
        assert gone.unfinished() == ()
        assert gone.stopped is ERROR

    run_seeded(story, seed=1)


def test_without_a_history_there_is_nothing_to_restore_from_but_after_an_outage():
    async def story() -> None:
        ledger = made(kept=False)
        in_doubt(ledger)
        with pytest.raises(InvalidInput, match="nothing is kept"):
            ledger.restore()
        assert ledger.undecided is not None
        other = made(kept=False)
        operations = accepted(other, 2)
        other.suspend(OutageError("out"))
        with pytest.raises(InvalidInput, match="nothing is in doubt"):
            other.assume_applied()
        assert other.restore() == tuple(operation.future for operation in operations)
        with pytest.raises(InvalidInput, match="there is nothing to decide"):
            other.restore()

    run_seeded(story, seed=1)


def test_who_is_told_may_decide_at_once():
    async def story() -> None:
        ledger = made()
        operations = accepted(ledger, 3)
        ledger.start_sending(operations[0]).doubts[0] = True
        told, decided = [operation.future for operation in operations], list[Future[Any]]()
        told[0].when_done(lambda: decided.extend(ledger.restore()))
        ledger.suspend(ERROR, operations[0])
        assert [await future.exception() for future in told] == [ERROR] * 3
        assert decided == [operation.future for operation in operations]
        assert not any(future.done() for future in decided)

    run_seeded(story, seed=1)
