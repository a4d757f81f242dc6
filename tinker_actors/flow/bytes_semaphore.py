"""BytesSemaphore: a budget of bytes that one item may overdraw."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec
import trio

from tinker_actors.checks import integer

__all__ = ["BytesSemaphore", "BytesStatistics"]


class BytesStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes held, the budget, and how many tasks wait."""

    held: int
    size: int
    waiting: int


class BytesSemaphore:
    """Admits while the bytes that are held have not gone beyond ``size``.

    An item is admitted whole, whatever its size, while the balance is not negative (the official SDK's rule, WIRE
    7.3): even one that is larger than the budget gets through. First come first served; a waiter that is cancelled
    leaves uncharged. Raises InvalidInput for a size or a number of bytes below zero.
    """

    def __init__(self, size: int) -> None:
        self._size = integer("size", size, "Give a number of bytes", low=0)
        self._held = 0
        # Tasks in order of arrival, and what each will be charged. No ParkingLot: a task that is cancelled leaves a
        # lot at once, and a queue of charges beside it only when it runs; in between it would be charged for ever.
        self._waiting: OrderedDict[trio.lowlevel.Task, int] = OrderedDict()

    def try_acquire(self, count: int) -> bool:
        """Take ``count`` bytes now, if the balance allows it and nobody waits before; True when taken."""
        count = _count(count)
        if self._waiting or self._held > self._size:
            return False
        self._held += count
        return True

    async def acquire(self, count: int) -> None:
        """Wait for ``count`` bytes. Whoever is cancelled holds none."""
        count = _count(count)
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.try_acquire(count):
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        task = trio.lowlevel.current_task()
        self._waiting[task] = count

        def leave(_: object) -> trio.lowlevel.Abort:
            del self._waiting[task]  # the others wait for the balance, not for this one
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)

    def release(self, count: int) -> None:
        """Give ``count`` bytes back. Raises RuntimeError, and changes nothing, when fewer are held."""
        count = _count(count)
        if count > self._held:
            raise RuntimeError(
                f"{count} bytes were given back where {self._held} are held: release what was acquired"
            )
        self._held -= count
        while self._waiting and self._held <= self._size:
            task, charge = self._waiting.popitem(last=False)
            self._held += charge
            trio.lowlevel.reschedule(task)

    @asynccontextmanager
    async def hold(self, count: int) -> AsyncGenerator[None]:
        """``count`` bytes for the length of the block."""
        await self.acquire(count)
        try:
            yield
        finally:
            self.release(count)

    def statistics(self) -> BytesStatistics:
        """What is held and who waits."""
        return BytesStatistics(held=self._held, size=self._size, waiting=len(self._waiting))


def _count(count: int) -> int:
    return integer("count", count, "Give a number of bytes", low=0)
