"""Admission: how many operations and bytes of one model may be accepted and unfinished."""

from __future__ import annotations

from collections import deque

import msgspec
import trio

from tinker_actors.errors import InvalidInput

__all__ = ["Admission", "AdmissionStatistics"]


class AdmissionStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What is admitted now and who waits."""

    count: int
    size: int
    waiting: int


class Admission:
    """First come, first served; what was admitted is given back with ``release`` when it ends.

    A single item larger than ``max_bytes`` is admitted when it is alone: refusing it for ever would help nobody.
    """

    def __init__(self, max_count: int, max_bytes: int) -> None:
        if max_count < 1 or max_bytes < 1:
            raise InvalidInput("max_pending", "is not positive", "Allow at least one operation and one byte")
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._count = 0
        self._size = 0
        self._waiters: deque[tuple[trio.Event, int]] = deque()

    def try_enter(self, size: int) -> bool:
        """Admit ``size`` bytes now if there is room and nobody waits before; True when admitted."""
        if self._waiters or not self._fits(size):
            return False
        self._count += 1
        self._size += size
        return True

    async def enter(self, size: int) -> None:
        """Wait until ``size`` bytes are admitted. A cancelled waiter was not charged."""
        if self.try_enter(size):
            return
        event = trio.Event()
        waiter = (event, size)
        self._waiters.append(waiter)
        try:
            await event.wait()
        except BaseException:
            if event.is_set():
                self.release(size)  # admitted and cancelled in the same tick: hand it on
            else:
                self._waiters.remove(waiter)
                self._admit()
            raise

    def release(self, size: int) -> None:
        """Give back what an ended operation held."""
        self._count -= 1
        self._size -= size
        self._admit()

    @property
    def size(self) -> int:
        """The bytes that are admitted now."""
        return self._size

    def dismiss(self) -> None:
        """Let in all who wait, whatever room there is: nothing is accepted for now, as they are to be told."""
        while self._waiters:
            self._let_in(*self._waiters.popleft())

    def statistics(self) -> AdmissionStatistics:
        """What is admitted now and who waits."""
        return AdmissionStatistics(count=self._count, size=self._size, waiting=len(self._waiters))

    def _fits(self, size: int) -> bool:
        return self._count < self._max_count and (self._count == 0 or self._size + size <= self._max_bytes)

    def _admit(self) -> None:
        while self._waiters and self._fits(self._waiters[0][1]):
            self._let_in(*self._waiters.popleft())

    def _let_in(self, event: trio.Event, size: int) -> None:
        self._count += 1
        self._size += size
        event.set()
