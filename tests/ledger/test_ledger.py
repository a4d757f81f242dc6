"""The Ledger: order, numbers that are given once, and futures that resolve once."""

import itertools

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tinker_actors.errors import LaneStopped, ModelLost, OperationCancelled, RequestFailedError, WaitTimeout
from tinker_actors.flow.pending import PendingTable
from tinker_actors.ledger import Chunk, Ledger, Operation, OperationKind, OperationState
from tinker_actors.types import AdamParams, OptimStepRequest


def make_ledger() -> Ledger:
    keys = (f"key-{n}" for n in itertools.count())
    ledger = Ledger("model", PendingTable(), lambda: next(keys), max_pending=100, max_pending_bytes=10_000)
    ledger.model_id = "m"
    return ledger


def accept(ledger: Ledger, chunks: int = 1) -> Operation:
    chunk = Chunk(OptimStepRequest(model_id="", seq_id=0, adam_params=AdamParams()), "digest", 10)
    assert ledger.admission.try_enter(10 * chunks)
    return ledger.accept(OperationKind.FORWARD_BACKWARD, (chunk,) * chunks)


FAILED = RequestFailedError("bad", category="user", request_id="r")


async def test_operations_are_numbered_and_sent_in_order():
    ledger = make_ledger()
    first, second = accept(ledger, 3), accept(ledger)

    assert (first.op_no, second.op_no) == (1, 2)
    assert ledger.next_to_send() is first
    assert ledger.start_sending(first).first_seq_id == 1
    for chunk in range(3):
        assert ledger.next_to_send() is first  # its turn lasts until every chunk is promised
        ledger.promise(first, chunk, f"r{chunk}")
    assert first.state is OperationState.PROMISED
    assert ledger.next_to_send() is second
    assert ledger.start_sending(second).first_seq_id == 4


async def test_a_resend_finds_its_numbers_and_keys():
    ledger = make_ledger()
    operation = accept(ledger, 2)
    before = ledger.start_sending(operation)
    ledger.promise(operation, 1, "r1")

    again = ledger.start_sending(operation)

    assert again is before
    assert again.first_seq_id == 1
    assert again.keys == ("key-0", "key-1")
    assert again.request_ids == [None, "r1"]
    assert ledger.statistics().next_seq_id == 3


async def test_cancelling_before_the_send_uses_no_seq_id():
    ledger = make_ledger()
    first, second = accept(ledger), accept(ledger)

    assert first.future.cancel()
    with pytest.raises(OperationCancelled, match="#1"):
        await first.future
    assert ledger.next_to_send() is second
    assert ledger.start_sending(second).first_seq_id == 1


async def test_cancelling_after_the_send_changes_nothing():
    ledger = make_ledger()
    operation = accept(ledger)
    ledger.start_sending(operation)

    assert not operation.future.cancel()
    ledger.finish(operation, "result")
    assert await operation.future == "result"
    assert not operation.future.cancel()


async def test_a_refused_operation_leaves_gaps_to_fill():
    ledger = make_ledger()
    operation = accept(ledger, 2)
    ledger.start_sending(operation)
    ledger.refuse(operation, FAILED)

    assert [gap.seq_id for gap in ledger.numbers.gaps()] == [1, 2]
    ledger.numbers.fill(ledger.numbers.gaps()[0])
    assert [gap.seq_id for gap in ledger.numbers.gaps()] == [2]
    assert ledger.start_sending(accept(ledger)).first_seq_id == 3


async def test_a_stopped_lane_ends_everything_and_accepts_nothing():
    ledger = make_ledger()
    operations = [accept(ledger) for _ in range(3)]
    ledger.start_sending(operations[0])
    lost = ModelLost("gone")
    ledger.stop(lost)

    for operation in operations:
        with pytest.raises(ModelLost, match="gone"):
            await operation.future
    held = ledger.admission.statistics()
    with pytest.raises(LaneStopped, match=r"not accepted.*gone"):
        accept(ledger)
    assert ledger.admission.statistics() == held
    assert len(ledger.accepted) == 3


async def test_several_tasks_get_the_same_result_and_a_timed_out_wait_says_why(autojump_clock):
    ledger = make_ledger()
    operation = accept(ledger)
    operation.entry.explain("behind #0")
    with pytest.raises(WaitTimeout, match=r"after 5 s: model#1 forward_backward: accepted for 5.0 s \(behind #0\)"):
        await operation.future.result(timeout=5)

    results: list[object] = []

    async def wait() -> None:
        results.append(await operation.future)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await trio.sleep(1)
        ledger.finish(operation, 42)
    assert results == [42, 42]
    assert await operation.future.exception() is None


async def test_a_future_resolves_once():
    operation = accept(make_ledger())
    operation.future.resolve(1)
    with pytest.raises(AssertionError, match="resolved twice"):
        operation.future.reject(FAILED)


@given(st.lists(st.sampled_from(["accept", "send", "promise", "finish", "fail", "cancel", "restart"]), max_size=80))
def test_whatever_happens_seq_ids_are_dense_and_admission_is_balanced(moves: list[str]):
    async def run() -> None:
        ledger = make_ledger()
        sent: list[int] = []
        accepted = 0
        for move in moves:
            turn = ledger.next_to_send()
            promised = [o for o in ledger.unfinished() if o.state is OperationState.PROMISED]
            if move == "accept" and accepted < 50:
                accept(ledger, 1 + accepted % 3)
                accepted += 1
            elif move == "send" and turn is not None:
                fresh = turn.sending is None
                sending = ledger.start_sending(turn)
                if fresh:
                    sent.extend(sending.first_seq_id + i for i in range(len(sending.keys)))
            elif move == "promise" and turn is not None and turn.sending is not None:
                ledger.promise(turn, turn.sending.request_ids.index(None), "r")
            elif move == "finish" and promised:
                ledger.finish(promised[-1], None)
            elif move == "fail" and promised:
                ledger.fail(promised[0], FAILED)
            elif move == "cancel" and ledger.unfinished():
                ledger.unfinished()[-1].future.cancel()
        assert sent == list(range(1, len(sent) + 1))
        assert ledger.admission.statistics().count == len(ledger.unfinished())
        assert ledger.admission.statistics().size == sum(o.size for o in ledger.unfinished())

    trio.run(run)


async def test_a_halted_lane_keeps_everything_accepts_nothing_and_goes_on():
    ledger = make_ledger()
    operation = accept(ledger)
    ledger.halt(ModelLost("the key was refused"))

    with pytest.raises(LaneStopped, match="is halted, because the key was refused"):
        accept(ledger)
    assert not operation.future.done()
    assert "halted: the key was refused" in str(operation.entry.snapshot())
    assert ledger.admission.statistics().count == 1
    ledger.resume()
    assert ledger.start_sending(operation).first_seq_id == 1
    assert accept(ledger).op_no == 2


async def test_an_operation_says_behind_which_one_it_waits():
    ledger = make_ledger()
    first = accept(ledger)
    second, third = accept(ledger), accept(ledger)

    assert [o.entry.reason for o in (first, second, third)] == ["", "behind #1", "behind #2"]
    ledger.start_sending(second)
    assert second.entry.reason == ""


async def test_a_long_job_remembers_its_latest_acceptances(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tinker_actors.ledger.ledger.ACCEPTED_KEPT", 3)
    ledger = make_ledger()
    for _ in range(5):
        accept(ledger)

    assert [operation.op_no for operation in ledger.accepted] == [3, 4, 5]
