"""BytesSemaphore: one overdraft, order of arrival, and an account that balances."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from supervision.testing import run_seeded
from tests.flow.every_step import cancelled_at_every_step
from tinker_actors.errors import InvalidInput
from tinker_actors.flow.bytes_semaphore import BytesSemaphore


@pytest.mark.parametrize("size", [-1, 0.5, float("nan"), True, None])
def test_what_is_no_number_of_bytes(size: Any):
    with pytest.raises(InvalidInput, match="size"):
        BytesSemaphore(size)
    semaphore = BytesSemaphore(10)
    for refused in (semaphore.try_acquire, semaphore.release):
        with pytest.raises(InvalidInput, match="count"):
            refused(size)
    assert semaphore.statistics().held == 0


async def test_the_budget_may_be_overdrawn_once_and_the_next_waits_for_a_release():
    semaphore = BytesSemaphore(1000)
    await semaphore.acquire(500)
    await semaphore.acquire(600)
    assert not semaphore.try_acquire(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(semaphore.acquire, 10)
        await wait_all_tasks_blocked()
        assert semaphore.statistics().waiting == 1
        semaphore.release(600)
        await wait_all_tasks_blocked()
        assert semaphore.statistics().held == 510


async def test_one_larger_than_the_budget_gets_through_and_nothing_needs_no_room():
    semaphore = BytesSemaphore(0)
    assert semaphore.try_acquire(0)
    assert semaphore.try_acquire(10**12)
    assert not semaphore.try_acquire(0)
    semaphore.release(10**12)
    semaphore.release(0)
    assert semaphore.statistics().held == 0


async def test_waiters_are_woken_in_order_and_only_while_the_balance_is_not_negative():
    semaphore = BytesSemaphore(10)
    await semaphore.acquire(11)
    order: list[int] = []

    async def take(count: int) -> None:
        await semaphore.acquire(count)
        order.append(count)

    async with trio.open_nursery() as nursery:
        for count in (20, 1, 2):
            nursery.start_soon(take, count)
            await wait_all_tasks_blocked()
        semaphore.release(11)
        assert not semaphore.try_acquire(0)
        await wait_all_tasks_blocked()
        assert order == [20]
        semaphore.release(15)
        assert semaphore.statistics().held == 5 + 1 + 2  # both at once
        await wait_all_tasks_blocked()
        assert sorted(order) == [1, 2, 20]


async def test_the_bytes_come_back_on_return_and_on_an_error():
    semaphore = BytesSemaphore(10)
    async with semaphore.hold(7):
        assert semaphore.statistics().held == 7
    with pytest.raises(KeyError):
        async with semaphore.hold(7):
            raise KeyError
    assert semaphore.statistics().held == 0
    with pytest.raises(RuntimeError, match="1 bytes were given back where 0 are held"):
        semaphore.release(1)


def test_a_holder_cancelled_at_any_step_is_not_charged_and_blocks_nobody():
    async def program(scope: trio.CancelScope) -> None:
        semaphore, done = BytesSemaphore(10), 0

        async def hold(count: int) -> None:
            nonlocal done
            async with semaphore.hold(count):
                await trio.sleep(1)
                done += 1

        async def victim() -> None:
            with scope:
                await hold(30)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold, 8)
            nursery.start_soon(hold, 8)
            nursery.start_soon(victim)
            nursery.start_soon(hold, 1)
            nursery.start_soon(hold, 12)
        assert done >= 4
        assert semaphore.statistics().held == semaphore.statistics().waiting == 0

    assert cancelled_at_every_step(program) > 60


@given(
    seed=st.integers(0, 2**16),
    size=st.integers(0, 50),
    holders=st.lists(
        st.tuples(st.integers(0, 40), st.floats(0, 5), st.floats(0, 3), st.floats(0, 8)), min_size=1, max_size=15
    ),
)
def test_the_account_balances_whoever_leaves(seed: int, size: int, holders: list[tuple[int, float, float, float]]):
    async def main() -> None:
        semaphore = BytesSemaphore(size)
        largest = max(count for count, *_ in holders)

        async def hold(count: int, at: float, length: float, patience: float) -> None:
            await trio.sleep(at)
            with trio.move_on_after(patience):
                async with semaphore.hold(count):
                    assert semaphore.statistics().held - largest <= size  # one at a time has overdrawn it
                    await trio.sleep(length)

        async with trio.open_nursery() as nursery:
            for holder in holders:
                nursery.start_soon(hold, *holder)
        assert semaphore.statistics().held == semaphore.statistics().waiting == 0

    run_seeded(main, seed=seed)
