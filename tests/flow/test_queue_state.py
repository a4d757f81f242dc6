"""The queue state of a client: which reports are changes, and what a pause means."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tinker_actors.flow.queue_state import ClientQueue, QueueStateChange, pause_reason
from tinker_actors.types import QueueState

ACTIVE, UNKNOWN = QueueState.ACTIVE, QueueState.UNKNOWN
CAPACITY, RATE = QueueState.PAUSED_CAPACITY, QueueState.PAUSED_RATE_LIMIT


def test_what_a_pause_means():
    assert pause_reason("training", RATE, None) != pause_reason("sampling", RATE, None)
    assert (
        pause_reason("training", CAPACITY, None)
        == pause_reason("sampling", CAPACITY, "")
        == "it is short of capacity"
    )
    assert pause_reason("training", CAPACITY, "busy") == "busy"
    assert pause_reason("sampling", UNKNOWN, None) == "it gives no reason"
    assert pause_reason("sampling", ACTIVE, "busy") == ""


@pytest.mark.parametrize("state", [CAPACITY, RATE])
async def test_only_a_change_of_state_or_reason_is_told(state: QueueState):
    queue = ClientQueue("m", "training")
    told: list[QueueStateChange] = []
    subscription = queue.subscribe(print)
    for reported, reason in [
        (ACTIVE, None),
        (state, "a"),
        (state, "a"),
        (state, "b"),
        (UNKNOWN, None),
        (ACTIVE, None),
    ]:
        before = queue.state.value
        queue.report(reported, reason)
        with trio.move_on_after(0):
            change = await subscription.next()
            assert change is not None
            told.append(change)
        assert queue.state.value is (before if reported is UNKNOWN else reported)
    assert [(change.state, change.reason) for change in told] == [(state, "a"), (state, "b"), (ACTIVE, "")]
    assert {(change.client, change.kind) for change in told} == {("m", "training")}


async def test_an_unknown_state_with_a_reason_is_one():
    queue = ClientQueue("m", "sampling")
    queue.report(UNKNOWN, "odd")
    assert queue.state.value is UNKNOWN


async def test_of_several_changes_the_last_is_kept_and_the_end_is_told():
    queue = ClientQueue("m", "training")
    subscription = queue.subscribe(print)
    for reason in "abc":
        queue.report(CAPACITY, reason)
    change = await subscription.next()
    assert change is not None
    assert change.reason == "c"
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            assert await subscription.next() is None

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        subscription.cancel()
    queue.report(ACTIVE, None)
    assert await subscription.next() is None
    queue.subscribe(print)
    assert len(queue._subscriptions) == 1  # those that have ended are not kept


async def test_who_waits_for_a_state_is_woken():
    queue = ClientQueue("m", "training")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.state.wait_value, CAPACITY)
        await wait_all_tasks_blocked()
        queue.report(CAPACITY, None)
