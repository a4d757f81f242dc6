"""The restarts that count against an intensity."""

from __future__ import annotations

from collections import deque

from supervision.errors import CrashReport

__all__: list[str] = []


class Window:
    """Restarts within the last `seconds` (both ends included)."""

    __slots__ = ("_crashes", "times")

    def __init__(self) -> None:
        self.times: deque[float] = deque()
        self._crashes: deque[CrashReport | None] = deque()
        """What each of them was for."""

    @property
    def history(self) -> tuple[CrashReport, ...]:
        """The crashes among them."""
        return tuple(crash for crash in self._crashes if crash is not None)

    def exceeded(self, now: float, limit: int, seconds: float, crash: CrashReport | None) -> bool:
        """Count one restart; True if it is one too many."""
        times = self.times
        while times and now - times[0] > seconds:
            times.popleft()
            self._crashes.popleft()
        times.append(now)
        self._crashes.append(crash)
        return len(times) > limit

    def clear(self) -> None:
        self.times.clear()
        self._crashes.clear()
