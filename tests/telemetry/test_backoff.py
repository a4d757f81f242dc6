"""How long a batch waits before it is sent again."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from tinker_actors.errors import InvalidInput
from tinker_actors.telemetry.backoff import LONGEST_DELAY, delay


def delays(attempt: int, **options: float) -> list[float]:
    return [delay(attempt, random.Random(seed), **options) for seed in range(200)]


def test_the_first_wait_is_the_base_and_at_most_a_tenth_more():
    assert all(1.0 < seconds <= 1.1 for seconds in delays(0))
    assert all(0.5 < seconds <= 0.55 for seconds in delays(0, base=0.5))
    assert len(set(delays(0))) > 100


def test_it_doubles_up_to_its_bound():
    for attempt, base in ((1, 2.0), (2, 4.0), (5, 32.0), (6, LONGEST_DELAY), (50, LONGEST_DELAY)):
        assert all(base < seconds <= base * 1.1 for seconds in delays(attempt))


@pytest.mark.parametrize("base", [0.0, 5e-324, 1e-9, 0.001])
def test_a_tiny_base_is_no_crash(base: float):
    assert all(0.0 <= seconds <= 0.1 for seconds in delays(3, base=base))


def test_neither_is_a_huge_number_of_tries():
    assert all(seconds <= LONGEST_DELAY * 1.1 for seconds in delays(10**6))
    assert all(seconds < math.inf for seconds in delays(2**40, base=1e300, longest=1e300))


@pytest.mark.parametrize(
    "given",
    [
        {"base": -1.0},
        {"base": math.nan},
        {"base": math.inf},
        {"longest": -0.5},
        {"longest": math.nan},
        {"longest": math.inf},
        {"base": "1"},
        {"base": True},
        {"attempt": -1},
        {"attempt": 0.5},
    ],
)
def test_what_is_no_time_to_wait_is_refused_by_name(given: dict[str, Any]):
    attempt = given.pop("attempt", 0)
    field = next(iter(given), "attempt")
    with pytest.raises(InvalidInput, match=field):
        delay(attempt, random.Random(0), **given)
