"""All deadlines of a system, kept by one task that sleeps until the earliest and never ticks.

An entry is anything with `done` and `expire()`. Entries are pruned lazily: one that is done stays in the heap until
its time, or until the dead outnumber the living, when the heap is rebuilt (amortised constant cost per entry).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, Protocol, final

import trio
from trio.lowlevel import enable_ki_protection

__all__ = ["Timer"]


class TimerEntry(Protocol):
    done: bool

    def expire(self) -> None: ...


@final
class Timer:
    """A callback at a later time; cancel() before it fires and it never does."""

    __slots__ = ("_callback", "done", "owner", "timers")

    def __init__(self, timers: Timers, callback: Callable[[], None]) -> None:
        self.timers = timers
        self._callback: Callable[[], None] | None = callback
        self.done = False
        self.owner: dict[Any, None] | None = None
        """Where it is kept until it has fired or was cancelled."""

    def expire(self) -> None:
        callback = self._callback
        self.cancel()
        if callback is not None:
            callback()

    def cancel(self) -> None:
        """Idempotent."""
        if not self.done:
            self.done = True
            self._callback = None
            self.timers.live -= 1
            if self.owner is not None:
                self.owner.pop(self, None)


@final
class Timers:
    """The heap and its task."""

    __slots__ = ("_closed", "_heap", "_scope", "_sequence", "clock", "live", "wake_at")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimerEntry]] = []
        self._sequence = 0
        self._scope: trio.CancelScope | None = None
        self._closed = False
        self.clock = trio.lowlevel.current_clock()
        self.live = 0
        """How many entries are not done; whoever sets `done` counts it down."""
        self.wake_at = math.inf

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, deadline: float, entry: TimerEntry) -> None:
        heap = self._heap
        self._sequence = sequence = self._sequence + 1
        heappush(heap, (deadline, sequence, entry))
        self.live = live = self.live + 1
        if deadline < self.wake_at:
            self._wake_at(deadline)
        # Looked at once in 64 entries: a call then pays no length check.
        if not sequence & 63 and len(heap) > 2 * live + 64:
            heap[:] = [item for item in heap if not item[2].done]
            heapify(heap)

    def after(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call `callback()` in the timer task after `delay` seconds. It must not raise."""
        return self.at(self.clock.current_time() + delay, callback)

    def at(self, deadline: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(self, callback)
        self.add(deadline, timer)
        return timer

    def _wake_at(self, deadline: float) -> None:
        self.wake_at = deadline
        if self._scope is not None:
            self._scope.deadline = deadline

    def close(self) -> None:
        """End run(); nothing fires any more."""
        self._closed = True
        if self._scope is not None:
            self._scope.cancel()

    @enable_ki_protection
    async def run(self) -> None:
        """The task. Shielded: deadlines count while the system shuts down under an outer cancellation, too."""
        while not self._closed:
            heap = self._heap
            while heap and heap[0][2].done:
                heappop(heap)
            self.wake_at = heap[0][0] if heap else math.inf
            with trio.CancelScope(deadline=self.wake_at, shield=True) as self._scope:
                await trio.sleep_forever()
            self._scope = None
            now = self.clock.current_time()
            while heap and not self._closed and (heap[0][0] <= now or heap[0][2].done):
                entry = heappop(heap)[2]
                if not entry.done:
                    entry.expire()
        self._heap.clear()
