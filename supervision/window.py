"""The restarts that count against an intensity."""

from __future__ import annotations

from collections import deque

from supervision.errors import CrashReport

__all__: list[str] = []


class Window:
    """Restarts within the last `seconds` (both ends included)."""

    __slots__ = ("history", "times")

    def __init__(self) -> None:
        self.times: deque[float] = deque()
        self.history: deque[CrashReport] = deque()

    def exceeded(self, now: float, limit: int, seconds: float, crash: CrashReport | None) -> bool:
        """Count one restart; True if it is one too many."""
        times = self.times
        while times and now - times[0] > seconds:
            times.popleft()
        times.append(now)
        if crash is not None:
            self.history.append(crash)
        while len(self.history) > limit + 1:
            self.history.popleft()
        return len(times) > limit

    def clear(self) -> None:
        self.times.clear()
        self.history.clear()
