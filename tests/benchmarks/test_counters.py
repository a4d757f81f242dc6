from __future__ import annotations

import gc
import sys

import pytest
import trio

from benchmarks.counters import count


async def test_steps_and_calls_are_those_of_the_operation() -> None:
    def work() -> None:
        len("")

    async def operations(times: int) -> None:
        for _ in range(times):
            work()
            await trio.lowlevel.checkpoint()

    found = await count(operations, 100)
    assert found.steps == 1.0

    async def twice(times: int) -> None:
        for _ in range(times):
            work()
            work()
            await trio.lowlevel.checkpoint()

    more = await count(twice, 100)
    assert more.steps == 1.0
    assert more.calls - found.calls == pytest.approx(2.0)  # work() and len()


async def test_what_was_profiled_before_is_profiled_again() -> None:
    def before(*_: object) -> None:
        """Someone else's."""

    async def operations(times: int) -> None:
        await trio.lowlevel.checkpoint()

    kept = sys.getprofile()
    sys.setprofile(before)
    try:
        await count(operations, 1)
        assert sys.getprofile() is before
    finally:
        sys.setprofile(kept)


@pytest.mark.parametrize("fails_in", [2, 3], ids=["steps", "calls"])
async def test_an_operation_that_fails_leaves_nothing_behind(fails_in: int) -> None:
    runs = 0
    kept = sys.getprofile()

    async def operations(times: int) -> None:
        nonlocal runs
        runs += 1
        if runs == fails_in:
            raise KeyError
        await trio.lowlevel.checkpoint()

    with pytest.raises(KeyError):
        await count(operations, 100)
    assert sys.getprofile() is kept
    assert gc.isenabled()
