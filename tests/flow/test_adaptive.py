"""AdaptiveLimit: found by trying, never beyond the cap."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from supervision.testing import run_seeded
from tinker_actors.errors import InvalidInput
from tinker_actors.flow.adaptive import AdaptiveLimit


@pytest.mark.parametrize("cap", [0, -3, True, None])
def test_a_cap_that_lets_nobody_through(cap: Any):
    with pytest.raises(InvalidInput, match="cap"):
        AdaptiveLimit(cap)


@pytest.mark.parametrize("decrease", [0.0, 1.0, -0.5, 2, math.nan, "half"])
def test_a_decrease_that_is_none(decrease: Any):
    with pytest.raises(InvalidInput, match="decrease"):
        AdaptiveLimit(4, decrease=decrease)


async def test_it_halves_once_for_all_that_were_under_way_and_grows_by_one_a_round(autojump_clock: MockClock):
    limit = AdaptiveLimit(100)
    assert limit.limit == 100
    began = trio.current_time()
    await trio.sleep(1.0)
    for _ in range(30):
        limit.pushed_back(began)
    assert limit.limit == 50
    limit.pushed_back(trio.current_time())  # sent under the new limit: still too many
    assert limit.limit == 25
    for _ in range(25):
        limit.succeeded()
    assert limit.limit == 25  # not quite a round: the limit grows within it
    limit.succeeded()
    assert limit.limit == 26
    for _ in range(100_000):
        limit.succeeded()
    assert limit.limit == 100


async def test_it_never_falls_below_one(autojump_clock: MockClock):
    limit = AdaptiveLimit(3)
    for _ in range(10):
        limit.pushed_back(trio.current_time())
        await trio.sleep(1.0)
    assert limit.limit == 1
    async with limit.hold():
        assert limit.statistics().held == 1


@given(seed=st.integers(0, 2**16), capacity=st.integers(3, 12), cap=st.integers(1, 30))
def test_it_finds_what_a_server_bears(seed: int, capacity: int, cap: int):
    """A server that bears ``capacity`` at once and refuses the rest: in the end few are refused."""

    async def main() -> None:
        limit = AdaptiveLimit(cap)
        busy = 0
        late: list[bool] = []  # of the requests of the second half, which were refused
        asked = 0

        async def client() -> None:
            nonlocal busy, asked
            for _ in range(10):
                async with limit.hold():
                    assert limit.statistics().held <= cap
                    began = trio.current_time()
                    asked += 1
                    refused = busy >= capacity
                    if asked > 150:
                        late.append(refused)
                    if refused:
                        await trio.sleep(0.1)
                        limit.pushed_back(began)
                    else:
                        busy += 1
                        await trio.sleep(1.0)
                        busy -= 1
                        limit.succeeded()

        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(client)
        assert sum(late) <= len(late) / 3
        assert limit.statistics().held == limit.statistics().waiting == 0

    run_seeded(main, seed=seed)
