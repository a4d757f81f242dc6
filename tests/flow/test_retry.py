"""Retry and RetryHandler: how often, how long, with what waits, and what is final."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Awaitable, Callable

import pytest
import trio

from tinker_actors.config import PollBackoff, RetryConfig
from tinker_actors.errors import APIConnectionError, APIError, APITimeoutError, InvalidInput, status_error
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.reaction import Reaction, while_calling
from tinker_actors.flow.retry import Retry, RetryEvent, RetryHandler

REFUSED = APIConnectionError("refused", sent=False)
STEADY = RetryConfig(jitter_factor=0.0)


class Calls:
    """A function that fails with each of ``errors``, the last one again and again, and then gives 7."""

    def __init__(self, *errors: Exception, ends: bool = True) -> None:
        self.errors = list(errors)
        self.ends = ends
        self.times: list[float] = []

    async def __call__(self) -> int:
        self.times.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.errors:
            raise self.errors[0] if len(self.errors) == 1 and not self.ends else self.errors.pop(0)
        return 7

    @property
    def gaps(self) -> list[float]:
        return [round(later - sooner, 6) for sooner, later in itertools.pairwise(self.times)]


def retry(config: RetryConfig = STEADY, on_event: Callable[[RetryEvent], None] | None = None) -> Retry:
    return Retry(config, rng=random.Random(1), on_event=on_event)


async def test_success_on_the_first_try_returns_at_once(autojump_clock: trio.testing.MockClock):
    calls = Calls()
    assert await retry().call(calls) == 7
    assert len(calls.times) == 1


async def test_two_failures_and_a_success_are_three_calls_and_four_kinds_of_event(
    autojump_clock: trio.testing.MockClock,
):
    events: list[RetryEvent] = []
    calls = Calls(REFUSED, status_error(503, "busy"))
    assert await retry(on_event=events.append).call(calls) == 7
    assert [(event.kind, event.attempt) for event in events] == [
        ("start", 0),
        ("retry", 0),
        ("start", 1),
        ("retry", 1),
        ("start", 2),
        ("stop", 2),
    ]
    assert "HTTP 503" in events[3].reason
    assert calls.gaps == [0.5, 1.0]


async def test_the_number_of_retries_is_bounded_and_the_last_error_comes_out(autojump_clock: trio.testing.MockClock):
    events: list[RetryEvent] = []
    calls = Calls(status_error(500, "broken"), ends=False)
    with pytest.raises(APIError, match="broken") as failed:
        await retry(RetryConfig(max_retries=2), events.append).call(calls)
    assert len(calls.times) == 3
    assert (events[-1].kind, events[-1].attempt, events[-1].error) == ("failed", 2, failed.value)
    assert failed.value.__context__ is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
async def test_a_users_error_is_called_once(status: int, autojump_clock: trio.testing.MockClock):
    calls = Calls(status_error(status, "no"), ends=False)
    with pytest.raises(APIError):
        await retry().call(calls)
    assert len(calls.times) == 1


async def test_no_retry_logic_gives_every_error_at_once(autojump_clock: trio.testing.MockClock):
    calls = Calls(REFUSED, ends=False)
    with pytest.raises(APIConnectionError, match="refused"):
        await retry(RetryConfig(enable_retry_logic=False)).call(calls)
    assert len(calls.times) == 1


async def test_waits_double_up_to_the_longest_and_jitter_makes_them_shorter(autojump_clock: trio.testing.MockClock):
    steady, varied = Calls(REFUSED, ends=False), Calls(REFUSED, ends=False)
    config = RetryConfig(jitter_factor=0.0, max_retries=6, retry_delay_base=1.0, retry_delay_max=9.0)
    with pytest.raises(APIConnectionError):
        await retry(config).call(steady)
    assert steady.gaps == [1.0, 2.0, 4.0, 8.0, 9.0, 9.0]
    with pytest.raises(APIConnectionError):
        await retry(RetryConfig(jitter_factor=0.5, max_retries=6, retry_delay_max=9.0)).call(varied)
    longest = [0.5, 1.0, 2.0, 4.0, 8.0, 9.0]
    assert all(0.5 * full <= gap <= full for gap, full in zip(varied.gaps, longest, strict=True))
    assert varied.gaps != longest


@pytest.mark.parametrize("status", [429, 503])
async def test_a_retry_after_is_a_lower_bound_of_every_wait(status: int, autojump_clock: trio.testing.MockClock):
    calls = Calls(*[status_error(status, "later", retry_after=30.0)] * 3)
    config = RetryConfig(jitter_factor=0.0, progress_timeout=80.0)
    assert await retry(config).call(calls) == 7
    assert min(calls.gaps) >= 30.0


async def test_without_progress_the_timeout_ends_it_whatever_is_answered(autojump_clock: trio.testing.MockClock):
    for error in (REFUSED, status_error(429, "later"), status_error(503, "busy")):
        calls = Calls(error, ends=False)
        with pytest.raises(APITimeoutError, match="no progress for 60 s") as failed:
            await retry(RetryConfig(progress_timeout=60.0)).call(calls)
        assert failed.value.__cause__ is error
        assert calls.times[-1] - calls.times[0] == pytest.approx(60.0, abs=1.0)


async def test_progress_elsewhere_keeps_a_request_alive(autojump_clock: trio.testing.MockClock):
    handler = RetryHandler(RetryConfig(progress_timeout=60.0), random.Random(1), outage_bound=math.inf)
    slow = Calls(status_error(429, "later"), ends=False)
    start = trio.current_time()

    async def others() -> None:
        for _ in range(10):
            await trio.sleep(50.0)
            await handler.patience().persist(Calls(), while_calling, lambda reason: None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        with pytest.raises(OutOfPatience) as gone:
            await handler.patience().persist(slow, while_calling, lambda reason: None)
    assert gone.value.overdue
    assert trio.current_time() - start == pytest.approx(560.0, abs=1.0)


async def test_what_is_recorded_as_progress_counts(autojump_clock: trio.testing.MockClock):
    policy = retry(RetryConfig(progress_timeout=30.0, retry_delay_max=10.0))
    start = trio.current_time()

    async def attempt() -> None:
        if trio.current_time() - start < 200.0:
            policy.record_progress()
        raise status_error(429, "later")

    with pytest.raises(APITimeoutError):
        await policy.call(attempt)
    assert trio.current_time() - start > 200.0


async def test_only_named_exceptions_of_others_are_repeated(autojump_clock: trio.testing.MockClock):
    named = retry(RetryConfig(retryable_exceptions=(OSError,)))
    calls = Calls(OSError("disk"), FileNotFoundError("file"))
    assert await named.call(calls) == 7
    assert len(calls.times) == 3
    other = Calls(ValueError("mine"), ends=False)
    with pytest.raises(ValueError, match="mine"):
        await named.call(other)
    assert len(other.times) == 1
    lasting = Calls(OSError("disk"), ends=False)
    with pytest.raises(OSError, match="disk"):
        await retry(RetryConfig(retryable_exceptions=(OSError,), max_retries=2)).call(lasting)
    assert len(lasting.times) == 3


async def test_a_wait_can_be_cancelled(autojump_clock: trio.testing.MockClock):
    calls = Calls(status_error(429, "later", retry_after=1000.0), ends=False)
    with trio.move_on_after(1.0) as scope:
        await retry().call(calls)
    assert scope.cancelled_caught


async def test_so_many_at_once_and_no_more(autojump_clock: trio.testing.MockClock):
    policy, now, most = retry(RetryConfig(max_connections=3)), 0, 0

    async def attempt() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await trio.sleep(1.0)
        now -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(policy.call, attempt)
    assert most == 3


@pytest.mark.parametrize("attempts", [0, 1, 10_000])
def test_without_a_bound_by_number_any_attempt_is_repeated(attempts: int):
    assert RetryConfig().delay(attempts) <= 10.0
    for status in (408, 409, 429, 500, 503, 599):
        assert while_calling(status_error(status, "")) in (Reaction.REPEAT, Reaction.WAIT)


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (503, False, Reaction.FAIL),
        (400, True, Reaction.REPEAT),
        (400, None, Reaction.FAIL),
        (402, None, Reaction.PAUSE),
    ],
)
def test_what_the_server_says_of_repeating_counts(status: int, said: bool | None, expected: Reaction):
    assert while_calling(status_error(status, "", should_retry=said)) is expected


async def test_the_bound_of_the_configuration_counts_besides(autojump_clock: trio.testing.MockClock):
    for config, bound in ((RetryConfig(), 2), (RetryConfig(max_retries=5), 2), (RetryConfig(max_retries=2), 5)):
        handler = RetryHandler(config, random.Random(1), outage_bound=math.inf, max_retries=bound)
        calls = Calls(REFUSED, ends=False)
        with pytest.raises(OutOfPatience):
            await handler.patience().persist(calls, while_calling, lambda reason: None)
        assert len(calls.times) == 3


async def test_a_back_off_of_the_users_gives_the_waits(autojump_clock: trio.testing.MockClock):
    handler = RetryHandler(STEADY, random.Random(1), outage_bound=60.0)

    async def gaps(backoff: Callable[[int], float]) -> list[float]:
        calls = Calls(REFUSED, ends=False)
        with pytest.raises(OutOfPatience):
            await handler.patience(backoff).persist(calls, while_calling, lambda reason: None)
        return calls.gaps

    assert (await gaps(PollBackoff(2.0, 16.0)))[:5] == [2.0, 4.0, 8.0, 16.0, 16.0]
    assert (await gaps(lambda tries: tries * 3.0 + 1.0))[:3] == [1.0, 4.0, 7.0]
    assert min(await gaps(lambda tries: 0.0)) >= 0.05  # no server is asked in a tight loop


@pytest.mark.parametrize("wait", [-1.0, math.nan, math.inf, "soon"])
async def test_a_back_off_that_gives_nonsense_is_named(wait: float, autojump_clock: trio.testing.MockClock):
    handler = RetryHandler(STEADY, random.Random(1), outage_bound=60.0)
    calls: Callable[[], Awaitable[int]] = Calls(REFUSED, ends=False)
    with pytest.raises(InvalidInput, match="poll_backoff"):
        await handler.patience(lambda tries: wait).persist(calls, while_calling, lambda reason: None)
