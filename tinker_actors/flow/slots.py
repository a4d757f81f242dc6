"""Slots: at most so many at a time, first come first served, freed with the holder's scope."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

__all__ = ["Slots"]


class Slots:
    """A counted limit. A waiter that is cancelled vanishes without a trace."""

    def __init__(self, total: int) -> None:
        self._limiter = trio.CapacityLimiter(total)

    @asynccontextmanager
    async def hold(self) -> AsyncGenerator[None, None]:
        """One slot for the length of the block."""
        holder = object()  # one task may hold several slots
        await self._limiter.acquire_on_behalf_of(holder)
        try:
            yield
        finally:
            self._limiter.release_on_behalf_of(holder)

    def statistics(self) -> trio.CapacityLimiterStatistics:
        """Slots borrowed and tasks waiting, as trio counts them."""
        return self._limiter.statistics()
