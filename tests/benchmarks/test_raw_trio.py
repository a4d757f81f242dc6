"""What others are compared with has to do what it says: its task steps tell."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest

from benchmarks import raw_trio
from benchmarks.counters import Operations, count


@pytest.mark.parametrize(
    ("contestant", "steps"),
    [
        (raw_trio.ping_pong(), 4.0),  # send, receive on either side; each a step of its own without a buffer
        (raw_trio.parked(), 2.0),
        (raw_trio.one_way(), 2.0),
        (raw_trio.send_nowait(), 1.0),
        (raw_trio.start_task(), 2.0),
    ],
    ids=["ping_pong", "parked", "one_way", "send_nowait", "start_task"],
)
async def test_steps(contestant: AbstractAsyncContextManager[Operations], steps: float) -> None:
    async with contestant as operations:
        found = await count(operations, 200)
    assert found.steps == pytest.approx(steps, rel=0.02)


async def test_a_restart_by_hand_starts_the_child_anew() -> None:
    found = await count(raw_trio.restart, 50)
    assert found.steps > 4
