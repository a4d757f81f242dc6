"""CircuitBreaker and CircuitBreakers: when calls run, when they are refused, who finds out that all is well."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from supervision.testing import run_seeded
from tests.flow.every_step import cancelled_at_every_step
from tinker_actors.errors import CircuitOpen, InvalidInput
from tinker_actors.flow.breaker import BreakerState, CircuitBreaker
from tinker_actors.flow.breakers import CircuitBreakers

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


async def well() -> int:
    await trio.lowlevel.checkpoint()
    return 7


async def badly() -> int:
    await trio.lowlevel.checkpoint()
    raise OSError("down")


async def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(OSError, match="down"):
            await breaker.call(badly)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("failure_threshold", 0),
        ("failure_threshold", 1.5),
        ("reset_timeout", -1.0),
        ("reset_timeout", math.nan),
        ("reset_timeout", math.inf),
        ("half_open_max_calls", 0),
        ("half_open_max_calls", True),
    ],
)
def test_a_breaker_that_could_never_open_or_close(name: str, value: Any):
    for make in (CircuitBreaker, CircuitBreakers):
        with pytest.raises(InvalidInput, match=name):
            make(**{name: value})


async def test_it_opens_at_the_threshold_and_refuses_without_calling(autojump_clock: MockClock):
    breaker = CircuitBreaker()
    await fail(breaker, 4)
    assert (breaker.state, breaker.statistics().failures) == (CLOSED, 4)
    await fail(breaker, 1)
    assert breaker.state is OPEN
    calls = 0

    async def count() -> None:
        nonlocal calls
        calls += 1

    await trio.sleep(10.0)
    with pytest.raises(CircuitOpen, match=r"open after 5 failures in a row; calls are tried in 20\.0 s"):
        await breaker.call(count)
    assert calls == 0


async def test_a_success_resets_the_count(autojump_clock: MockClock):
    breaker = CircuitBreaker(failure_threshold=3)
    await fail(breaker, 2)
    assert await breaker.call(well) == 7
    await fail(breaker, 2)
    assert breaker.state is CLOSED


async def test_half_open_one_success_closes_and_one_failure_opens_anew(autojump_clock: MockClock):
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=30.0)
    await fail(breaker, 1)
    await trio.sleep(30.0)
    assert breaker.state is HALF_OPEN
    assert breaker.allows()
    await fail(breaker, 1)
    assert breaker.state is OPEN
    assert breaker.statistics().opens_in == pytest.approx(30.0)
    await trio.sleep(30.0)
    assert await breaker.call(well) == 7
    assert (breaker.state, breaker.statistics().failures) == (CLOSED, 0)


async def test_a_classifier_says_what_a_failure_is(autojump_clock: MockClock):
    breaker = CircuitBreaker(failure_threshold=1)
    assert await breaker.call(well, lambda value: value == 7) == 7
    assert breaker.state is CLOSED
    assert await breaker.call(well, lambda value: value != 7) == 7  # the value comes all the same
    assert breaker.state is OPEN


async def test_no_more_probes_at_a_time_than_allowed(autojump_clock: MockClock):
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=1.0, half_open_max_calls=2)
    await fail(breaker, 1)
    await trio.sleep(1.0)
    gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(breaker.call, gate.wait)
        nursery.start_soon(breaker.call, gate.wait)
        await wait_all_tasks_blocked()
        assert breaker.statistics().probes == 2
        with pytest.raises(CircuitOpen, match="2 calls find out"):
            await breaker.call(well)
        gate.set()
    assert breaker.state is CLOSED


async def test_what_began_before_the_circuit_changed_has_no_say_in_it(autojump_clock: MockClock):
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=5.0)
    gate = trio.Event()

    async def late() -> None:
        await gate.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(breaker.call, late)
        await wait_all_tasks_blocked()
        await fail(breaker, 1)
        gate.set()
    assert breaker.state is OPEN
    breaker.reset()
    assert breaker.state is CLOSED


def test_a_probe_that_is_cancelled_at_any_step_gives_its_place_back():
    async def program(scope: trio.CancelScope) -> None:
        breaker = CircuitBreaker(failure_threshold=1, reset_timeout=1.0)
        await fail(breaker, 1)
        await trio.sleep(1.0)

        async def slow() -> None:
            await trio.sleep(5.0)

        async def probe() -> None:
            with scope:
                await breaker.call(slow)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(probe)
        assert breaker.statistics().probes == 0
        assert await breaker.call(well) == 7

    assert cancelled_at_every_step(program) > 10


async def test_twenty_failures_at_once_with_a_threshold_of_twenty_open_it(autojump_clock: MockClock):
    breakers = CircuitBreakers(failure_threshold=20)

    async def one() -> None:
        with pytest.raises(OSError, match="down"):
            await breakers.call("server", badly)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    assert breakers.state("server") is OPEN


async def test_names_are_independent_and_unknown_ones_are_closed(autojump_clock: MockClock):
    breakers = CircuitBreakers(failure_threshold=1)
    assert breakers.state("other") is CLOSED
    breakers.reset("other")
    breakers.delete("other")
    assert await breakers.call("well", well) == 7
    with pytest.raises(OSError, match="down"):
        await breakers.call("down", badly)
    with pytest.raises(CircuitOpen):
        await breakers.call("down", well)
    assert {name: row.state for name, row in breakers.statistics().items()} == {"well": CLOSED, "down": OPEN}
    breakers.reset("down")
    assert await breakers.call("down", well) == 7
    breakers.delete("down")
    assert list(breakers.statistics()) == ["well"]
    with pytest.raises(InvalidInput, match="name"):
        await breakers.call("", well)


async def test_the_table_is_bounded_and_keeps_what_it_knows_of_the_troubled(autojump_clock: MockClock):
    breakers = CircuitBreakers(failure_threshold=1, most=3)
    with pytest.raises(OSError, match="down"):
        await breakers.call("down", badly)
    gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(breakers.call, "busy", gate.wait)
        await wait_all_tasks_blocked()
        for number in range(100):
            await breakers.call(f"name-{number}", well)
        assert list(breakers.statistics()) == ["down", "busy", "name-99"]
        gate.set()
    assert breakers.state("down") is OPEN


class Model:
    """What a breaker is, in the fewest words: for calls one at a time."""

    def __init__(self, threshold: int, reset: float) -> None:
        self.threshold, self.reset = threshold, reset
        self.failures, self.opened = 0, math.inf

    def allows(self, now: float) -> bool:
        return self.opened == math.inf or now - self.opened >= self.reset

    def ended(self, now: float, ok: bool) -> None:
        probe = self.opened != math.inf
        self.failures = 0 if ok else self.failures + 1
        if ok:
            self.opened = math.inf
        elif probe or self.failures >= self.threshold:
            self.opened = now


@given(
    threshold=st.integers(1, 4),
    reset=st.floats(0, 10),
    calls=st.lists(st.tuples(st.floats(0, 6), st.booleans()), max_size=40),
)
def test_a_breaker_against_its_model(threshold: int, reset: float, calls: list[tuple[float, bool]]):
    async def main() -> None:
        breaker, model = CircuitBreaker(failure_threshold=threshold, reset_timeout=reset), Model(threshold, reset)
        for pause, ok in calls:
            await trio.sleep(pause)
            now = trio.current_time()
            function: Callable[[], Awaitable[int]] = well if ok else badly
            allowed = model.allows(now)
            assert breaker.allows() is allowed
            try:
                await breaker.call(function)
            except CircuitOpen:
                assert not allowed
            except OSError:
                assert allowed
                model.ended(now, False)
            else:
                assert allowed
                model.ended(now, True)

    run_seeded(main, seed=0)


@pytest.mark.parametrize("function", [3, None, lambda: 3, well], ids=["number", "none", "plain", "coroutine"])
async def test_a_mistake_of_the_callers_is_no_failure_of_what_is_called(function: Any):
    breaker = CircuitBreaker(failure_threshold=1)
    given = well() if function is well else function
    with pytest.raises(InvalidInput, match="function"):
        await breaker.call(given)
    if function is well:
        given.close()
    assert (breaker.state, breaker.statistics().failures) == (CLOSED, 0)
    assert repr(breaker) == "<CircuitBreaker closed, failures 0>"
