"""Admission: bounds, order of arrival, and no charge for who leaves."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from tinker_actors.errors import InvalidInput
from tinker_actors.flow.admission import Admission


async def test_waiters_enter_in_order_of_arrival():
    admission = Admission(1, 100)
    await admission.enter(10)
    order: list[int] = []

    async def enter(number: int) -> None:
        await admission.enter(10)
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(enter, number)
            await wait_all_tasks_blocked()
        for _ in range(4):
            admission.release(10)
            await wait_all_tasks_blocked()

    assert order == [0, 1, 2, 3]


async def test_a_cancelled_waiter_is_not_charged_and_frees_the_next():
    admission = Admission(10, 100)
    await admission.enter(60)
    large = trio.CancelScope()
    async with trio.open_nursery() as nursery:

        async def wait_for_large() -> None:
            with large:
                await admission.enter(90)

        entered = trio.Event()

        async def small() -> None:
            await admission.enter(30)
            entered.set()

        nursery.start_soon(wait_for_large)
        await wait_all_tasks_blocked()
        nursery.start_soon(small)
        await wait_all_tasks_blocked()
        assert not entered.is_set()  # no overtaking
        large.cancel()
        await wait_all_tasks_blocked()
        assert entered.is_set()

    assert admission.statistics().size == 90
    assert admission.statistics().waiting == 0


async def test_cancelled_in_the_tick_of_its_admission_it_hands_on():
    admission = Admission(1, 100)
    await admission.enter(1)
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def wait() -> None:
            with scope:
                await admission.enter(1)
                await trio.sleep_forever()

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        scope.cancel()
        admission.release(1)
    assert admission.statistics().count == 0
    assert admission.try_enter(1)


async def test_one_larger_than_the_bound_is_admitted_alone():
    admission = Admission(10, 100)
    assert admission.try_enter(1000)
    assert not admission.try_enter(1)
    admission.release(1000)
    assert admission.try_enter(1)
    assert not admission.try_enter(1000)


@pytest.mark.parametrize("bounds", [(0, 1), (1, 0), (-1, 5)])
def test_bounds_must_be_positive(bounds: tuple[int, int]):
    with pytest.raises(InvalidInput, match="max_pending"):
        Admission(*bounds)


@given(st.lists(st.one_of(st.integers(1, 60), st.just(None)), max_size=60))
def test_bounds_hold_whatever_comes_and_goes(moves: list[int | None]):
    admission = Admission(5, 100)
    held: list[int] = []
    for move in moves:
        if move is None:
            if held:
                admission.release(held.pop())
        elif admission.try_enter(move):
            held.append(move)
        assert admission.statistics().count == len(held) <= 5
        assert admission.statistics().size == sum(held) <= 100
