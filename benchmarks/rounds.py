"""Several contestants timed in turns, so that a machine that slows down slows all of them down.

The time is the CPU time of this thread, where none of them waits: what other programs take does not count then.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import final

from benchmarks.counters import Operations

__all__ = ["Rates", "timed_rounds"]


@final
class Rates:
    """Operations a second (of the clock's) of each contestant, round by round."""

    def __init__(self, rates: Mapping[str, list[float]]) -> None:
        self._rates = rates

    def best(self, name: str) -> float:
        """The best round of ``name``: what disturbs a round only ever makes it slower."""
        return max(self._rates[name])

    def ratio(self, name: str, other: str) -> float:
        """How many times as fast ``name`` is, best round by best round."""
        return self.best(name) / self.best(other)

    def spread(self, name: str, other: str) -> str:
        """The ratio's range when each round is taken by itself: how far to trust it."""
        ratios = [mine / theirs for mine, theirs in zip(self._rates[name], self._rates[other], strict=True)]
        return f"best of {len(ratios)} rounds; by the round {min(ratios):.2f} to {max(ratios):.2f}"


async def timed_rounds(
    contestants: Mapping[str, tuple[Operations, int]],
    *,
    rounds: int,
    clock: Callable[[], float] = time.thread_time,
) -> Rates:
    """Run each of ``contestants`` (what, how often) once a round, after a short round that is not timed.

    ``clock`` gives seconds: another one is for those whose work is done by other threads.
    """
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for operations, times in contestants.values():
        await operations(max(times // 20, 1))
    for _ in range(rounds):
        for name, (operations, times) in contestants.items():
            gc.collect()
            begun = clock()
            await operations(times)
            rates[name].append(times / (clock() - begun))
    return Rates(rates)
