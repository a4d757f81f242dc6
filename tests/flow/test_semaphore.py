"""Semaphores: bounds, order of arrival, hand-off, and no permit that is lost."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from supervision.testing import run_seeded
from tests.flow.every_step import cancelled_at_every_step
from tinker_actors.errors import InvalidInput
from tinker_actors.flow.semaphore import Semaphore, Semaphores


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, None, "2"])
def test_a_limit_that_lets_nobody_through_is_refused(limit: Any):
    with pytest.raises(InvalidInput, match="limit"):
        Semaphore(limit)
    semaphore = Semaphore(2)
    with pytest.raises(InvalidInput, match="limit"):
        semaphore.resize(limit)
    assert semaphore.limit == 2
    semaphores = Semaphores()
    with pytest.raises(InvalidInput, match="limit"):
        semaphores.try_acquire("a", limit)
    assert semaphores.statistics() == {}


async def test_a_permit_goes_to_whoever_waits_longest_and_nobody_overtakes():
    semaphore = Semaphore(1)
    with assert_checkpoints():
        await semaphore.acquire()
    order: list[int] = []

    async def hold(number: int) -> None:
        async with semaphore.hold():
            order.append(number)
            assert semaphore.held == 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(hold, number)
            await wait_all_tasks_blocked()
        assert semaphore.statistics().waiting == 4
        semaphore.release()
        assert not semaphore.try_acquire()  # it has been handed on already
    assert order == [0, 1, 2, 3]
    assert semaphore.held == 0


async def test_another_limit_lets_waiters_in_and_takes_no_permit_away():
    semaphore = Semaphore(3)
    for _ in range(3):
        assert semaphore.try_acquire()
    semaphore.resize(1)
    assert semaphore.held == 3
    semaphore.release()
    semaphore.release()
    assert not semaphore.try_acquire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(semaphore.acquire)
        nursery.start_soon(semaphore.acquire)
        await wait_all_tasks_blocked()
        assert semaphore.statistics().waiting == 2
        semaphore.resize(2)
        assert (semaphore.held, semaphore.statistics().waiting) == (2, 1)
        semaphore.resize(3)


def test_what_nobody_holds_can_not_be_given_back():
    semaphore = Semaphore(2)
    with pytest.raises(RuntimeError, match="nobody holds"):
        semaphore.release()
    semaphores = Semaphores()
    with pytest.raises(RuntimeError, match="nobody holds"):
        semaphores.release("a")
    assert semaphore.held == semaphores.count("a") == 0


def test_a_holder_cancelled_at_any_step_keeps_no_permit_and_blocks_nobody():
    async def program(scope: trio.CancelScope) -> None:
        semaphore, done, most = Semaphore(2), 0, 0

        async def hold() -> None:
            nonlocal done, most
            async with semaphore.hold():
                most = max(most, semaphore.held)
                await trio.sleep(1)
                done += 1

        async def victim() -> None:
            with scope:
                await hold()

        async with trio.open_nursery() as nursery:
            for task in (hold, hold, victim, hold, hold):
                nursery.start_soon(task)
        assert done >= 4
        assert most == 2
        assert semaphore.statistics().held == semaphore.statistics().waiting == 0

    assert cancelled_at_every_step(program) > 60


@given(
    seed=st.integers(0, 2**16),
    limit=st.integers(1, 4),
    holders=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 3), st.floats(0, 8)), min_size=1, max_size=15),
)
def test_never_more_than_the_limit_and_in_order_whoever_leaves(
    seed: int, limit: int, holders: list[tuple[float, float, float]]
):
    async def main() -> None:
        semaphore = Semaphore(limit)
        asked: list[int] = []
        served: dict[int, float] = {}

        async def hold(number: int, at: float, length: float, patience: float) -> None:
            await trio.sleep(at)
            with trio.move_on_after(patience):
                asked.append(number)
                async with semaphore.hold():
                    served[number] = trio.current_time()
                    assert semaphore.held <= limit
                    await trio.sleep(length)
                    return
            if number not in served:
                asked.remove(number)

        async with trio.open_nursery() as nursery:
            for number, holder in enumerate(holders):
                nursery.start_soon(hold, number, *holder)
        times = [served[number] for number in asked]
        assert times == sorted(times)
        assert semaphore.statistics().held == semaphore.statistics().waiting == 0

    run_seeded(main, seed=seed)


async def test_keys_are_independent_and_the_limit_may_change_per_call():
    semaphores = Semaphores()
    assert semaphores.try_acquire("a", 1)
    assert not semaphores.try_acquire("a", 1)
    assert semaphores.try_acquire("a", 2)
    assert semaphores.try_acquire("b", 1)
    assert (semaphores.count("a"), semaphores.count("b"), semaphores.count("c")) == (2, 1, 0)


async def test_ten_at_once_get_exactly_as_many_permits_as_there_are():
    semaphores = Semaphores()
    got: list[bool] = []

    async def one() -> None:
        got.append(semaphores.try_acquire("a", 5))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)
    assert sum(got) == 5


async def test_the_table_holds_only_keys_in_use(autojump_clock: trio.testing.MockClock):
    semaphores = Semaphores()
    running, most = 0, 0
    rng = random.Random(1)

    async def hold(key: int) -> None:
        nonlocal running, most
        with trio.move_on_after(rng.uniform(0.5, 4)):
            async with semaphores.hold(key, 1):
                running += 1
                most = max(most, len(semaphores.statistics()))
                assert semaphores.count(key) == 1
                try:
                    await trio.sleep(1)
                finally:
                    running -= 1

    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(hold, number % 7)
    assert most == 7
    assert semaphores.statistics() == {}
