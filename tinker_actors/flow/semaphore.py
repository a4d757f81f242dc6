"""Semaphores: at most so many at a time, first come first served, freed with the holder's scope."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager

import msgspec
import trio

from tinker_actors.checks import integer

__all__ = ["Semaphore", "SemaphoreStatistics", "Semaphores"]


class SemaphoreStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """How many hold a permit, how many there are at most, and how many tasks wait for one."""

    held: int
    limit: int
    waiting: int


class Semaphore:
    """At most ``limit`` holders at a time.

    A permit that is given back goes straight to whoever has waited longest: nobody overtakes, and a permit is never
    free while somebody waits. A waiter that is cancelled leaves without a trace. Raises InvalidInput for a limit
    that would let nobody through.
    """

    __slots__ = ("_held", "_limit", "_lot")

    def __init__(self, limit: int) -> None:
        self._limit = _limit(limit)
        self._held = 0
        self._lot = trio.lowlevel.ParkingLot()

    @property
    def held(self) -> int:
        """Permits that are out."""
        return self._held

    @property
    def limit(self) -> int:
        """How many may be out at a time."""
        return self._limit

    def try_acquire(self) -> bool:
        """Take a permit now, if there is one and nobody waits before; True when taken."""
        if self._lot or self._held >= self._limit:
            return False
        self._held += 1
        return True

    async def acquire(self) -> None:
        """Wait for a permit. Whoever is cancelled holds none."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.try_acquire():
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            # Who is unparked has the permit already, and a cancellation can't come in between: it strikes the
            # next checkpoint, which lies within the holder's scope.
            await self._lot.park()

    def release(self) -> None:
        """Give a permit back. Raises RuntimeError, and changes nothing, when none is out."""
        if not self._held:
            raise RuntimeError("a permit was given back that nobody holds: release once for each acquire")
        self._held -= 1
        self._hand_on()

    def resize(self, limit: int) -> None:
        """Let ``limit`` hold permits from now on. Who holds one keeps it, even where that are too many now."""
        self._limit = _limit(limit)
        self._hand_on()

    @asynccontextmanager
    async def hold(self) -> AsyncGenerator[None]:
        """One permit for the length of the block."""
        await self.acquire()
        try:
            yield
        finally:
            self.release()

    def statistics(self) -> SemaphoreStatistics:
        """Who holds and who waits."""
        return SemaphoreStatistics(held=self._held, limit=self._limit, waiting=len(self._lot))

    def _hand_on(self) -> None:
        while self._lot and self._held < self._limit:
            self._held += 1
            self._lot.unpark()


class Semaphores:
    """A semaphore for each key, there for as long as somebody holds or waits.

    The limit is given with each use, and counts for those who wait from then on: the same key may be asked for
    under another one later.
    """

    def __init__(self) -> None:
        self._by_key: dict[Hashable, Semaphore] = {}

    def try_acquire(self, key: Hashable, limit: int) -> bool:
        """Take a permit of ``key`` now, if fewer than ``limit`` are out and nobody waits; True when taken."""
        semaphore = self._of(key, limit)
        taken = semaphore.try_acquire()
        self._tidy(key, semaphore)
        return taken

    async def acquire(self, key: Hashable, limit: int) -> None:
        """Wait for a permit of ``key``. Whoever is cancelled holds none."""
        semaphore = self._of(key, limit)
        try:
            await semaphore.acquire()
        finally:
            self._tidy(key, semaphore)

    def release(self, key: Hashable) -> None:
        """Give a permit of ``key`` back. Raises RuntimeError, and changes nothing, when none is out."""
        semaphore = self._by_key.get(key)
        if semaphore is None:
            raise RuntimeError(f"a permit of {key!r} was given back that nobody holds: release once for each acquire")
        semaphore.release()
        self._tidy(key, semaphore)

    @asynccontextmanager
    async def hold(self, key: Hashable, limit: int) -> AsyncGenerator[None]:
        """One permit of ``key`` for the length of the block."""
        await self.acquire(key, limit)
        try:
            yield
        finally:
            self.release(key)

    def count(self, key: Hashable) -> int:
        """Permits of ``key`` that are out."""
        semaphore = self._by_key.get(key)
        return 0 if semaphore is None else semaphore.held

    def statistics(self) -> dict[Hashable, SemaphoreStatistics]:
        """Who holds and who waits, by key; keys that nobody uses are not there."""
        return {key: semaphore.statistics() for key, semaphore in self._by_key.items()}

    def _of(self, key: Hashable, limit: int) -> Semaphore:
        semaphore = self._by_key.get(key)
        if semaphore is None:
            semaphore = self._by_key[key] = Semaphore(limit)
        elif limit != semaphore.limit:
            semaphore.resize(limit)
        return semaphore

    def _tidy(self, key: Hashable, semaphore: Semaphore) -> None:
        if not semaphore.held and not semaphore.statistics().waiting:
            self._by_key.pop(key, None)


def _limit(limit: int) -> int:
    return integer("limit", limit, "Let at least one through at a time", low=1)
