"""When something of a client's last came through, so that one that is stuck can be told from one that is slow."""

from __future__ import annotations

import math
from typing import final

import trio

__all__ = ["Progress"]


@final
class Progress:
    """The latest progress of all that share it. ``timeout`` is in seconds; None detects nothing."""

    __slots__ = ("_last", "_timeout")

    def __init__(self, timeout: float | None) -> None:
        self._timeout = math.inf if timeout is None else timeout
        self._last = -math.inf

    def record(self) -> None:
        """Something came through now."""
        self._last = trio.current_time()

    def quiet(self, since: float) -> float:
        """Seconds without progress, of those since ``since``."""
        return trio.current_time() - max(self._last, since)

    def left(self, since: float) -> float:
        """Seconds that may still pass without progress; zero or less when that is over."""
        return self._timeout - self.quiet(since)
