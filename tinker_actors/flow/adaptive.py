"""AdaptiveLimit: how many at once a server bears, found out by trying."""

from __future__ import annotations

import math
from contextlib import AbstractAsyncContextManager
from typing import final

import msgspec
import trio

from tinker_actors.checks import integer, number
from tinker_actors.errors import InvalidInput
from tinker_actors.flow.semaphore import Semaphore

__all__ = ["AdaptiveLimit", "AdaptiveStatistics"]


class AdaptiveStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The limit now, the highest that it may be, who holds and who waits."""

    limit: int
    cap: int
    held: int
    waiting: int


@final
class AdaptiveLimit:
    """A semaphore whose limit grows while requests are taken and shrinks when one is pushed back.

    Additive increase, multiplicative decrease (as TCP does against congestion: Chiu and Jain, 1989): each success
    adds 1/limit, so about one for a whole round of requests; a push-back multiplies by ``decrease``, once for all
    requests that were under way at the time. It starts at ``cap``, never exceeds it, and never falls below 1.
    Raises InvalidInput for a cap below 1 or a decrease that is not between 0 and 1.
    """

    def __init__(self, cap: int, *, decrease: float = 0.5) -> None:
        self._cap = integer("cap", cap, "Let at least one through at a time", low=1)
        self._decrease = number("decrease", decrease, "Give a factor between 0 and 1")
        if not 0.0 < self._decrease < 1.0:
            raise InvalidInput("decrease", f"{decrease} is out of range", "Give a factor between 0 and 1")
        self._limit = float(self._cap)
        self._semaphore = Semaphore(self._cap)
        self._shrunk_at = -math.inf

    @property
    def limit(self) -> int:
        """How many may be under way at once, now."""
        return self._semaphore.limit

    def hold(self) -> AbstractAsyncContextManager[None]:
        """One permit for the length of the block."""
        return self._semaphore.hold()

    def succeeded(self) -> None:
        """A request was taken: a little more may be tried."""
        if self._limit < self._cap:
            self._set(min(self._limit + 1.0 / self._limit, float(self._cap)))

    def pushed_back(self, began: float) -> None:
        """A request that began at ``began`` (trio's clock) was refused, because there were too many."""
        if began < self._shrunk_at:
            return  # sent before the limit shrank: it says nothing about the limit of now
        self._shrunk_at = trio.current_time()
        self._set(max(self._limit * self._decrease, 1.0))

    def statistics(self) -> AdaptiveStatistics:
        """The limit, who holds and who waits."""
        now = self._semaphore.statistics()
        return AdaptiveStatistics(limit=now.limit, cap=self._cap, held=now.held, waiting=now.waiting)

    def _set(self, limit: float) -> None:
        self._limit = limit
        if int(limit) != self._semaphore.limit:
            self._semaphore.resize(int(limit))
