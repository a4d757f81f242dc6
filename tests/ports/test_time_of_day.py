"""The time of day: the machine's own, and under a virtual clock one that follows from that clock alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import trio
from trio.testing import MockClock

from tinker_actors.ports.time_of_day import time_of_day


def test_it_is_the_machine_s():
    async def now() -> datetime:
        await trio.lowlevel.checkpoint()
        return time_of_day()

    before = datetime.now(UTC)
    found = trio.run(now)
    assert before <= found <= datetime.now(UTC)
    assert found.tzinfo is UTC


def test_under_a_virtual_clock_it_goes_with_that():
    async def later() -> tuple[datetime, datetime]:
        before = time_of_day()
        await trio.sleep(90)
        return before, time_of_day()

    first, second = trio.run(later, clock=MockClock(autojump_threshold=0))
    assert first.year == 2000
    assert second - first == timedelta(seconds=90)
