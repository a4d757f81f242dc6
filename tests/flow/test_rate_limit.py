"""RateLimiter: one window for all that use a key, never shortened by what is older."""

from __future__ import annotations

import gc
import random
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, assert_no_checkpoints, wait_all_tasks_blocked

from supervision.testing import run_seeded
from tinker_actors.errors import InvalidInput
from tinker_actors.flow.rate_limit import RateLimiter, RateLimiters, normalized_url


def limiter() -> RateLimiter:
    return RateLimiter(random.Random(1))


@pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf"), True, None, "1"])
async def test_what_is_no_time_to_wait_changes_nothing(seconds: Any):
    limit = limiter()
    with pytest.raises(InvalidInput, match="seconds"):
        limit.back_off(seconds)
    assert limit.statistics().pushed_back == 0
    assert limit.remaining == 0.0


async def test_without_a_window_nobody_waits(autojump_clock: MockClock):
    limit = limiter()
    with assert_no_checkpoints():
        await limit.wait()
    limit.back_off(0.0)
    with assert_no_checkpoints():
        await limit.wait()
    limit.back_off(2.0)
    await trio.sleep(2.0)
    with assert_no_checkpoints():
        await limit.wait()
    assert limit.recent(1.0)
    assert not limit.recent(0.0)


async def test_a_wait_lasts_at_least_the_window_and_its_end_is_spread(autojump_clock: MockClock):
    limit = limiter()
    limit.back_off(4.0)
    ends: list[float] = []
    told: list[str] = []

    async def wait() -> None:
        await limit.wait(told.append)
        ends.append(trio.current_time())

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert limit.statistics().waiting == 50
    assert min(ends) >= start + 4.0
    assert max(ends) <= start + 5.0
    assert len(set(ends)) == 50
    assert set(told) == {"the server asked for a pause, 4.0 s are left"}
    assert limit.statistics().waiting == 0


async def test_the_longer_window_wins(autojump_clock: MockClock):
    limit = limiter()
    limit.back_off(10.0)
    limit.back_off(1.0)
    assert limit.remaining == 10.0
    limit.back_off(12.0)
    assert limit.remaining == 12.0
    assert limit.statistics().pushed_back == 3


async def test_who_waits_looks_again_when_it_wakes(autojump_clock: MockClock):
    limit = limiter()
    limit.back_off(2.0)
    start = trio.current_time()

    async def again() -> None:
        await trio.sleep(1.9)
        limit.back_off(5.0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(again)
        await limit.wait()
    assert trio.current_time() - start >= 6.9


async def test_an_older_success_never_ends_a_newer_window(autojump_clock: MockClock):
    limit = limiter()
    began = trio.current_time()
    await trio.sleep(1.0)
    limit.back_off(30.0)
    limit.succeeded(began)
    limit.succeeded(trio.current_time())  # in the same instant: it can't have known, either
    assert limit.remaining == 30.0
    await trio.sleep(1.0)
    woken: list[float] = []

    async def wait() -> None:
        await limit.wait()
        woken.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        limit.succeeded(trio.current_time())  # sent within the window, and taken: the server is well again
    assert limit.remaining == 0.0
    assert woken[0] - began <= 2.0 + 1.0


@given(
    seed=st.integers(0, 2**16),
    events=st.lists(
        st.tuples(st.floats(0, 2), st.sampled_from(["push", "old", "new"]), st.floats(0, 20)), max_size=25
    ),
)
def test_windows_against_a_model(seed: int, events: list[tuple[float, str, float]]):
    async def main() -> None:
        limit = limiter()
        until, last = 0.0, -1.0
        for pause, kind, seconds in events:
            await trio.sleep(pause)
            now = trio.current_time()
            if kind == "push":
                limit.back_off(seconds)
                until, last = max(until, now + seconds), now
            else:
                began = now if kind == "new" else now - seconds
                limit.succeeded(began)
                if began > last:
                    until = min(until, now)
            assert limit.remaining == pytest.approx(max(0.0, until - now))

    run_seeded(main, seed=seed)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://Host.Example/a/b?c=d", "https://host.example"),
        ("https://host:443", "https://host"),
        ("http://host:80/", "http://host"),
        ("http://host:443", "http://host:443"),
        ("HTTP://user:word@host:8000/x", "http://host:8000"),
        ("http://[::1]:8000/a", "http://[::1]:8000"),
    ],
)
def test_equivalent_urls_are_one(url: str, normal: str):
    assert normalized_url(url) == normal
    limiters = RateLimiters(random.Random(1))
    assert limiters.limiter(url, "k") is limiters.limiter(normal, "k")


@pytest.mark.parametrize("url", ["", "host", "ftp://host", "http://", "http://host:port", "http://[::1"])
def test_what_is_no_server(url: str):
    with pytest.raises(InvalidInput, match="base_url"):
        RateLimiters(random.Random(1)).limiter(url, "k")


def test_each_key_has_its_own_and_nothing_is_kept_that_nobody_uses():
    limiters = RateLimiters(random.Random(1))
    one, other = limiters.limiter("http://host", "k-1"), limiters.limiter("http://host", "k-2")
    assert one is not other
    assert len(limiters) == 2
    assert "k-1" not in repr(vars(limiters))
    del one
    for number in range(10_000):
        limiters.limiter("http://host", f"key-{number}")
    gc.collect()
    assert len(limiters) == 1
    assert limiters.limiter("http://host", "k-2") is other
