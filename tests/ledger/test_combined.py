"""Several Futures as one, and each Future settled once, whatever is done to it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tinker_actors import as_completed, first, gather
from tinker_actors.errors import InvalidInput, ModelLost, OperationCancelled, WaitTimeout
from tinker_actors.flow.home import Home
from tinker_actors.ledger import Future

BAD = ModelLost("gone")


def cell(name: str = "cell") -> Future[Any]:
    """A future that can be cancelled until it is settled."""

    def cancel() -> bool:
        future.reject(OperationCancelled(name))
        return True

    future: Future[Any] = Future(lambda: name, cancel, Home())
    return future


async def test_gather_keeps_the_order_given_whatever_the_order_of_ends():
    a, b, c = cell(), cell(), cell()
    whole = gather([a, b, c])
    for value, future in ((3, c), (1, a), (2, b)):
        assert not whole.done()
        future.resolve(value)

    assert await whole == (1, 2, 3)
    assert await gather([]) == ()


async def test_gather_ends_with_the_first_error_and_the_others_go_on():
    a, b = cell(), cell()
    whole = gather([a, b])
    b.reject(BAD)

    with pytest.raises(ModelLost):
        await whole
    assert not a.done()
    a.resolve(1)
    assert await a == 1


async def test_gather_gives_errors_as_values_when_asked_to():
    a, b, c = cell(), cell(), cell()
    whole = gather([a, b, c.map(lambda value: 1 // value)], return_errors=True)
    b.reject(BAD)
    a.resolve(1)
    assert not whole.done()
    c.resolve(0)

    one, two, three = await whole
    assert (one, two) == (1, BAD)
    assert isinstance(three, ZeroDivisionError)


async def test_the_first_to_end_counts_be_it_an_error():
    a, b, c = cell(), cell(), cell()
    winner, loser = first([a, b]), first([c, b])
    b.reject(BAD)

    for future in (winner, loser):
        with pytest.raises(ModelLost):
            await future
    a.resolve("late")
    assert await a == "late"
    assert await first([cell(), a]) == "late"


async def test_a_long_lived_future_forgets_the_races_that_it_has_lost():
    slow = cell()
    for n in range(50):
        quick = cell()
        race = first([slow, quick])
        quick.resolve(n)
        assert await race == n

    assert slow._listeners == []


async def test_futures_come_as_they_are_completed():
    futures = [cell(str(n)) for n in range(4)]
    futures[2].resolve(2)
    order: list[Future[Any]] = []

    async def consume() -> None:
        order.extend([future async for future in as_completed(futures)])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        for n in (3, 0):
            await trio.testing.wait_all_tasks_blocked()
            futures[n].resolve(n)
        futures[1].reject(BAD)
    assert order == [futures[n] for n in (2, 3, 0, 1)]


async def test_a_wait_for_the_next_one_can_be_left_and_taken_up_again(autojump_clock: object):
    futures = [cell(), cell()]
    coming = as_completed(futures)
    with trio.move_on_after(1):
        await anext(coming)
    futures[1].resolve(1)
    futures[0].resolve(0)

    with trio.fail_after(1):
        assert [await future async for future in coming] == [1, 0]


async def test_several_tasks_may_share_the_futures_that_come():
    futures = [cell() for _ in range(4)]
    coming = as_completed(futures)
    got: list[int] = []

    async def consume() -> None:
        got.extend([await future async for future in coming])

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(consume)
        await trio.testing.wait_all_tasks_blocked()
        for n, future in enumerate(futures):
            future.resolve(n)
    assert sorted(got) == [0, 1, 2, 3]


async def test_a_mapped_future_calls_its_function_once_in_the_task_that_asks():
    called: list[trio.lowlevel.Task] = []

    def double(value: int) -> int:
        called.append(trio.lowlevel.current_task())
        return 2 * value

    source = cell()
    made = source.map(double)
    source.resolve(21)
    assert called == []
    assert [await made, await made] == [42, 42]
    assert called == [trio.lowlevel.current_task()]


async def test_what_a_mapped_function_raises_is_the_error_of_its_future_alone():
    source = cell()
    made = source.map(lambda value: value / 0).map(str)
    source.resolve(1)

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await made
    assert isinstance(await made.exception(), ZeroDivisionError)
    assert await source == 1


async def test_the_error_of_the_source_passes_a_mapped_future_by():
    source = cell()
    made = source.map(lambda value: pytest.fail("called"))
    source.reject(BAD)
    with pytest.raises(ModelLost):
        await made


async def test_cancelling_what_was_made_cancels_what_it_was_made_of(autojump_clock: object):
    a, b, c = cell("a"), cell("b"), cell("c")
    c.resolve(1)
    assert gather([a.map(str), first([b, cell("d")]), c]).cancel()
    for future in (a, b):
        with trio.fail_after(1), pytest.raises(OperationCancelled):
            await future
    assert await c == 1
    assert not gather([c]).cancel()


async def test_a_wait_for_several_that_times_out_says_for_which(autojump_clock: object):
    futures = [cell(f"number {n}") for n in range(6)]
    futures[1].resolve(None)
    text = "all of 6, 5 not done: number 0; number 2; number 3; and 2 more"
    with pytest.raises(WaitTimeout, match=text):
        await gather(futures).result(timeout=3)
    assert not futures[0].done()


@pytest.mark.parametrize("call", [gather, first, as_completed])
async def test_what_is_no_future_is_named(call: Any):
    with pytest.raises(InvalidInput, match=r"futures\[1\]: is of type int"):
        call([cell(), 3])
    with pytest.raises(InvalidInput, match="futures: are of type int"):
        call(3)
    with pytest.raises(InvalidInput, match="can't be called"):
        cell().map(None)  # type: ignore[arg-type]


async def test_the_first_of_none_is_refused():
    with pytest.raises(InvalidInput, match="at least one"):
        first([])


MOVES = st.lists(st.tuples(st.sampled_from(["resolve", "reject", "cancel"]), st.integers(0, 3)), max_size=12)


@given(MOVES)
def test_each_future_is_settled_once_by_what_came_first(moves: list[tuple[str, int]]):
    async def run() -> None:
        futures = [cell(str(n)) for n in range(4)]
        settled: dict[int, str] = {}
        order: list[int] = []
        whole, tolerant, winner = gather(futures), gather(futures, return_errors=True), first(futures)
        mapped, coming = [future.map(str) for future in futures], as_completed(futures)
        rung = [0] * 4
        for n, future in enumerate(futures):
            future.when_done(lambda n=n: rung.__setitem__(n, rung[n] + 1))
        for move, n in moves:
            future = futures[n]
            if move == "cancel":
                assert future.cancel() is (n not in settled)
            elif n in settled:
                with pytest.raises(AssertionError, match="resolved twice"):
                    future.resolve(move) if move == "resolve" else future.reject(BAD)
            elif move == "resolve":
                future.resolve(n)
            else:
                future.reject(BAD)
            if n not in settled:
                settled[n] = move
                order.append(n)
        assert [n for n in range(4) if futures[n].done()] == sorted(settled)
        assert rung == [int(n in settled) for n in range(4)]
        errors = {
            n: OperationCancelled if how == "cancel" else ModelLost for n, how in settled.items() if how != "resolve"
        }
        for n, how in settled.items():
            if how == "resolve":
                assert (await futures[n], await mapped[n], await futures[n]) == (n, str(n), n)
            else:
                for future in (futures[n], mapped[n]):
                    with pytest.raises(errors[n]):
                        await future
        assert [futures.index(await anext(coming)) for _ in settled] == order
        assert winner.done() is bool(order)
        if order:
            outcome = await winner.exception()
            assert (outcome is None) is (settled[order[0]] == "resolve")
        assert whole.done() is (len(settled) == 4 or bool(errors))
        assert tolerant.done() is (len(settled) == 4)
        if len(settled) == 4:
            assert [settled[n] == "resolve" for n in range(4)] == [part == n for n, part in enumerate(await tolerant)]
        first_error = next((n for n in order if n in errors), None)
        if whole.done():
            assert type(await whole.exception()) is (errors[first_error] if first_error is not None else type(None))

    async def bounded() -> None:
        with trio.fail_after(60):
            await run()

    trio.run(bounded, clock=trio.testing.MockClock(autojump_threshold=0))
