"""The Offload port: blocking work away from the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

__all__ = ["InlineOffload", "Offload", "ThreadOffload"]

T = TypeVar("T")


class Offload(Protocol):
    """Runs blocking work. The effect of work that has begun happens even if the waiter is cancelled."""

    async def run(self, work: Callable[[], T], *, cost: float = 0.0) -> T:
        """Run ``work`` and return what it returns; ``cost`` is its modelled duration in simulated seconds."""
        ...

    def apart(self) -> Offload:
        """Another one of the same kind, for work that may never return: it takes nobody else's room."""
        ...


class ThreadOffload:
    """Production: a worker thread, at most ``workers`` at a time.

    With ``abandon_on_cancel`` a waiter that is cancelled leaves at once, for work that may never return: its thread
    goes on, counts among ``workers`` until it ends, and what it returns is dropped.
    """

    def __init__(self, workers: int = 1, *, abandon_on_cancel: bool = False) -> None:
        self._limiter = trio.CapacityLimiter(workers)
        self._abandon = abandon_on_cancel

    @property
    def running(self) -> int:
        """How many threads are at work, those that nobody waits for any more included."""
        return self._limiter.borrowed_tokens

    async def run(self, work: Callable[[], T], *, cost: float = 0.0) -> T:
        """Run ``work`` in a thread."""
        return await trio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=self._abandon)

    def apart(self) -> Offload:
        """One thread more, left behind by a waiter that is cancelled."""
        return ThreadOffload(1, abandon_on_cancel=True)


class InlineOffload:
    """Simulation: waits ``cost`` virtual seconds, then runs ``work`` on the loop.

    The wait is shielded, as a thread would go on when its waiter is cancelled.
    """

    def __init__(self, workers: int = 1) -> None:
        self._limiter = trio.CapacityLimiter(workers)

    async def run(self, work: Callable[[], T], *, cost: float = 0.0) -> T:
        """Run ``work`` after ``cost`` virtual seconds."""
        async with self._limiter:
            with trio.CancelScope(shield=True):
                await trio.sleep(cost)
            return work()

    def apart(self) -> Offload:
        """This one: what runs on the loop always returns before anybody can leave it."""
        return self
