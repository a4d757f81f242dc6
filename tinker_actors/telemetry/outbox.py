"""The events that have not got through yet: a bounded queue that outlives whoever sends from it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import final

import msgspec
import trio

from tinker_actors.types import TelemetryEvent

__all__ = ["Letter", "Outbox"]

MOST_EVENTS = 10_000
MOST_BYTES = 8 * 1024 * 1024
_BATCH_BYTES = 1024 * 1024


class Letter(msgspec.Struct, frozen=True, eq=False):
    """One event, how many bytes it has as JSON, and of which session it is: "" for one before there was any."""

    event: TelemetryEvent
    size: int
    session_id: str = ""


@final
class Outbox:
    """Events in order, at most ``most_events`` and ``most_bytes`` of them; a full one refuses what is new.

    An event is due from the ``release()`` after it on, and stays until it is acknowledged or given up: ``pushed`` is
    the sum of ``sent``, ``given_up`` and ``len()``. ``refused`` were never in it.
    """

    def __init__(self, most_events: int = MOST_EVENTS, most_bytes: int = MOST_BYTES) -> None:
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._letters: deque[Letter] = deque()
        self._bytes = 0
        self._released = 0
        self._waiting_for_due = trio.lowlevel.ParkingLot()
        self._waiting_for_end = trio.lowlevel.ParkingLot()
        self.sent = self.given_up = self.refused = 0

    def __len__(self) -> int:
        return len(self._letters)

    @property
    def pushed(self) -> int:
        """How many events it has taken."""
        return self.done + len(self._letters)

    @property
    def done(self) -> int:
        """How many of them it no longer has: sent or given up."""
        return self.sent + self.given_up

    @property
    def unreleased(self) -> int:
        """How many events are not due."""
        return self.pushed - self._released

    def push(self, letter: Letter) -> bool:
        """Add an event at the end; False, and counted as refused, when there is no room."""
        if len(self._letters) >= self._most_events or self._bytes + letter.size > self._most_bytes:
            self.refused += 1
            return False
        self._letters.append(letter)
        self._bytes += letter.size
        return True

    def release(self) -> None:
        """All events there are now may be sent."""
        self._released = self.pushed
        if self._due:
            self._waiting_for_due.unpark_all()

    def batch(self, most: int) -> tuple[Letter, ...]:
        """The first events that are due: of one session, at most ``most`` and a megabyte, but at least one."""
        out: list[Letter] = []
        size = 0
        for letter in islice(self._letters, min(most, self._due)):
            size += letter.size
            if out and (size > _BATCH_BYTES or letter.session_id != out[0].session_id):
                break
            out.append(letter)
        return tuple(out)

    def acknowledge(self, letters: Sequence[Letter]) -> None:
        """The server has them."""
        self.sent += self._take(letters)
        self._waiting_for_end.unpark_all()

    def give_up(self, letters: Sequence[Letter]) -> int:
        """They will not get through; how many of them were still here."""
        taken = self._take(letters)
        self.given_up += taken
        self._waiting_for_end.unpark_all()
        return taken

    def due(self) -> tuple[Letter, ...]:
        """All that may be sent."""
        return tuple(islice(self._letters, self._due))

    def rest(self) -> tuple[Letter, ...]:
        """All that is here."""
        return tuple(self._letters)

    async def until_due(self) -> None:
        """Wait for an event that may be sent."""
        if self._due:
            await trio.lowlevel.checkpoint()
        while not self._due:
            await self._waiting_for_due.park()

    async def until_done(self) -> None:
        """Wait until all that is due now has been sent or given up."""
        end = self._released
        if self.done >= end:
            await trio.lowlevel.checkpoint()
        while self.done < end:
            await self._waiting_for_end.park()

    @property
    def _due(self) -> int:
        return max(0, self._released - self.done)

    def _take(self, letters: Sequence[Letter]) -> int:
        taken = 0
        for letter in letters:
            # an answer that comes late may be about what is gone
            if not self._letters or self._letters[0] is not letter:
                break
            self._letters.popleft()
            self._bytes -= letter.size
            taken += 1
        return taken
