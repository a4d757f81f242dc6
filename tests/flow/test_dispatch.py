"""SamplingDispatch: which gates a sample passes, and what a push-back changes."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.flow.every_step import cancelled_at_every_step
from tinker_actors.errors import APIStatusError, BillingError, InternalServerError, RateLimitError, status_error
from tinker_actors.flow.dispatch import SamplingDispatch
from tinker_actors.flow.rate_limit import RateLimiter


def dispatch(in_flight: int = 2000, size: int = 10_485_760, limiter: RateLimiter | None = None) -> SamplingDispatch:
    shared = limiter if limiter is not None else RateLimiter(random.Random(1))
    return SamplingDispatch(shared, in_flight=in_flight, size=size)


def refusing(status: int, retry_after: float | None = None) -> Callable[[], Awaitable[int]]:
    async def send() -> int:
        await trio.sleep(0.1)
        raise status_error(status, "busy", retry_after=retry_after)

    return send


async def taken() -> int:
    await trio.sleep(0.1)
    return 7


class Busy:
    """A server that counts how many are being sent at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def __call__(self) -> int:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await trio.sleep(1.0)
        finally:
            self.now -= 1
        return self.now

    async def crowd(self, gates: SamplingDispatch, count: int, size: int) -> float:
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(gates.attempt, self, size)
        return trio.current_time() - start


async def test_without_a_push_back_the_function_runs_directly(autojump_clock: MockClock):
    start = trio.current_time()
    assert await dispatch().attempt(taken, 100) == 7
    assert trio.current_time() - start == pytest.approx(0.1)


async def test_four_hundred_are_sent_at_once_and_ten_after_a_push_back(autojump_clock: MockClock):
    gates, server = dispatch(), Busy()
    assert await server.crowd(gates, 900, 10) == pytest.approx(3.0)
    assert server.most == 400
    with pytest.raises(RateLimitError):
        await gates.attempt(refusing(429), 10)
    server.most = 0
    await server.crowd(gates, 50, 10)
    assert server.most == 10
    await trio.sleep(10.0)  # the pause ended more than ten seconds ago
    server.most = 0
    await server.crowd(gates, 50, 10)
    assert server.most == 50


async def test_after_a_push_back_each_byte_counts_twenty_times(autojump_clock: MockClock):
    gates, server = dispatch(size=1000), Busy()
    await server.crowd(gates, 2, 100)
    assert server.most == 2
    with pytest.raises(RateLimitError):
        await gates.attempt(refusing(429), 100)
    server.most = 0
    await server.crowd(gates, 2, 100)
    assert server.most == 1


@pytest.mark.parametrize(
    ("size", "asked", "pause"),
    [
        (10, None, 1.0),
        (10, 0.5, 1.0),
        (131_072, None, 1.0),
        (131_073, None, 5.0),
        (10, 3.0, 3.0),
        (200_000, 3.0, 5.0),
        (-5, 0.0, 1.0),
    ],
)
@pytest.mark.parametrize(("status", "error"), [(429, RateLimitError), (402, BillingError)])
async def test_a_push_back_is_a_pause_for_all_that_use_the_key(
    size: int, asked: float | None, pause: float, status: int, error: type[APIStatusError], autojump_clock: MockClock
):
    shared = RateLimiter(random.Random(1))
    one, other = dispatch(limiter=shared), dispatch(limiter=shared)
    with pytest.raises(error):
        await one.attempt(refusing(status, asked), size)
    assert shared.remaining == pytest.approx(pause)
    start = trio.current_time()
    told: list[str] = []
    assert await other.attempt(taken, 10, told.append) == 7
    assert trio.current_time() - start >= pause + 0.1
    assert told == [f"the server asked for a pause, {pause:.1f} s are left"]


async def test_an_error_of_another_kind_stops_nobody(autojump_clock: MockClock):
    gates = dispatch()
    with pytest.raises(InternalServerError):
        await gates.attempt(refusing(503), 10)
    assert gates.statistics().window.pushed_back == 0
    assert gates.statistics().in_flight.limit == 2000


async def test_a_push_back_halves_what_may_be_in_flight_and_a_billing_pause_does_not(autojump_clock: MockClock):
    gates = dispatch(in_flight=8)
    with pytest.raises(BillingError):
        await gates.attempt(refusing(402), 10)
    assert gates.statistics().in_flight.limit == 8
    with pytest.raises(RateLimitError):
        await gates.attempt(refusing(429), 10)
    assert gates.statistics().in_flight.limit == 4
    for _ in range(5):
        await gates.attempt(taken, 10)
    assert gates.statistics().in_flight.limit == 5


async def test_who_waited_at_a_gate_looks_again_whether_a_pause_has_begun(autojump_clock: MockClock):
    gates = dispatch(size=100)
    sent: list[float] = []

    async def slow() -> int:
        await trio.sleep(1.0)
        raise status_error(429, "busy", retry_after=20.0)

    async def first() -> None:
        with pytest.raises(RateLimitError):
            await gates.attempt(slow, 200)

    async def second() -> None:
        async def send() -> None:
            sent.append(trio.current_time())

        await gates.attempt(send, 10)

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await wait_all_tasks_blocked()
        nursery.start_soon(second)
    assert sent[0] - start >= 21.0


async def test_nothing_is_held_during_a_pause(autojump_clock: MockClock):
    gates = dispatch()
    with pytest.raises(RateLimitError):
        await gates.attempt(refusing(429, 30.0), 10)
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(gates.attempt, taken, 10)
        await wait_all_tasks_blocked()
        now = gates.statistics()
        assert (now.dispatch.held, now.throttled.held, now.size.held, now.window.waiting) == (0, 0, 0, 50)


def test_a_sample_cancelled_at_any_step_holds_no_gate_and_blocks_nobody():
    async def program(scope: trio.CancelScope) -> None:
        gates = dispatch(in_flight=3, size=100)
        done = 0

        async def sample(size: int, send: Callable[[], Awaitable[int]] = taken) -> None:
            nonlocal done
            async with gates.in_flight():
                try:
                    await gates.attempt(send, size)
                except RateLimitError:
                    await gates.attempt(taken, size)
            done += 1

        async def victim() -> None:
            with scope:
                await sample(30, refusing(429))

        async with trio.open_nursery() as nursery:
            for size in (60, 60, 7):
                nursery.start_soon(sample, size)
            nursery.start_soon(victim)
            for size in (60, 3):
                nursery.start_soon(sample, size)
        assert done >= 5
        now = gates.statistics()
        assert now.in_flight.held == now.dispatch.held == now.throttled.held == now.size.held == 0
        assert now.in_flight.waiting == now.dispatch.waiting == now.throttled.waiting == now.size.waiting == 0
        assert now.window.waiting == 0

    assert cancelled_at_every_step(program) > 100
