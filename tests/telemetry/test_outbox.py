"""The queue of events that have not got through yet."""

from __future__ import annotations

import datetime

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tinker_actors.telemetry.outbox import Letter, Outbox
from tinker_actors.types import GenericEvent


def letter(number: int, size: int = 10) -> Letter:
    event = GenericEvent(
        event_id=f"e{number}",
        event_session_index=number,
        timestamp=datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC),
        event_name="a",
    )
    return Letter(event, size)


def filled(count: int, **bounds: int) -> Outbox:
    box = Outbox(**bounds)
    for number in range(count):
        assert box.push(letter(number))
    return box


def names(box: Outbox, most: int = 100) -> list[str]:
    return [one.event.event_id for one in box.batch(most)]


def test_events_stay_in_order_and_are_counted():
    box = filled(3)
    box.release()
    assert names(box) == ["e0", "e1", "e2"]
    assert (len(box), box.pushed, box.done) == (3, 3, 0)
    box.acknowledge(box.batch(2))
    assert names(box) == ["e2"]
    assert (len(box), box.pushed, box.sent) == (1, 3, 2)
    box.give_up(box.batch(2))
    assert (len(box), box.pushed, box.sent, box.given_up, box.done) == (0, 3, 2, 1, 3)


def test_a_full_one_refuses_what_is_new():
    box = filled(3, most_events=3)
    assert not box.push(letter(3))
    assert (len(box), box.refused, box.pushed) == (3, 1, 3)
    box.release()
    box.acknowledge(box.batch(1))
    assert box.push(letter(4))


def test_so_does_one_that_is_full_of_bytes():
    box = filled(3, most_bytes=35)
    assert not box.push(letter(3))
    assert box.push(letter(3, size=5))
    box.release()
    box.acknowledge(box.batch(2))
    assert box.push(letter(4, size=20))
    assert not box.push(letter(5, size=1))


def test_only_what_is_due_goes_out():
    box = filled(2)
    assert names(box) == []
    assert box.unreleased == 2
    box.release()
    box.push(letter(2))
    assert names(box) == ["e0", "e1"]
    assert box.unreleased == 1


def test_a_batch_is_bounded_in_number_and_bytes_and_holds_at_least_one():
    box = Outbox()
    for number, size in enumerate((400_000, 400_000, 400_000, 1_500_000, 10)):
        box.push(letter(number, size))
    box.release()
    assert names(box) == ["e0", "e1"]
    assert names(box, 1) == ["e0"]
    box.acknowledge(box.batch(3))
    assert names(box) == ["e2"]
    box.acknowledge(box.batch(3))
    assert names(box) == ["e3"]


def test_an_answer_about_what_is_gone_changes_nothing():
    box = filled(4)
    box.release()
    first = box.batch(2)
    box.acknowledge(first)
    box.acknowledge(first)
    assert box.give_up(first) == 0
    assert (box.sent, box.given_up, len(box)) == (2, 0, 2)


async def test_waiting_for_what_is_due_and_for_its_end(autojump_clock: trio.abc.Clock):
    box = filled(1)
    log: list[str] = []

    async def due() -> None:
        await box.until_due()
        log.append("due")

    async def done() -> None:
        await box.until_done()
        log.append("done")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(due)
        await wait_all_tasks_blocked()
        assert log == []
        box.release()
        await wait_all_tasks_blocked()
        assert log == ["due"]
        nursery.start_soon(done)
        await wait_all_tasks_blocked()
        assert log == ["due"]
        box.push(letter(1))  # what comes later is not waited for
        box.release()
        box.acknowledge(box.batch(1))
        await wait_all_tasks_blocked()
        assert log == ["due", "done"]
    await box.until_due()
    box.give_up(box.batch(1))
    await box.until_done()
    with pytest.raises(trio.TooSlowError):
        with trio.fail_after(1):
            await box.until_due()
