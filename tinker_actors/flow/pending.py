"""What waits, and why: one table for everything that is under way and has not finished."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import msgspec
import trio

__all__ = ["FIRST_NOTICE", "Pending", "PendingEntry", "PendingTable", "span"]

FIRST_NOTICE = 10.0
"""Seconds in one state after which it is worth a line in the log."""


_REASONS: Final = {
    "waiting to be accepted": "as much as may be pending at a time is",
    "being undone": "nobody waits for it any more",
    "accepted": "its turn comes next",
    "sent": "no answer has come yet",
    "promised": "the server has not said how far it is",
}
"""Of states in which nobody has said more."""


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that waits. ``age`` and ``since`` (time in the present state) are in seconds.

    ``expected`` when nothing is wrong: the server works on it, or it waits behind others.
    """

    name: str
    kind: str
    state: str
    reason: str
    age: float
    since: float
    expected: bool = False

    def __str__(self) -> str:
        text = f"{self.name} {self.kind}: {self.state} for {span(self.since)}"
        return f"{text} ({self.reason})" if self.reason else text


class PendingEntry:
    """The live row of one thing that waits; its owner sets ``state`` and ``reason``."""

    __slots__ = ("_changed", "_opened", "due", "expected", "kind", "name", "reason", "state")

    def __init__(self, name: str, kind: str, state: str) -> None:
        self.name = name
        self.kind = kind
        self.state = state
        self.reason = ""
        self.expected = False
        self._opened = self._changed = trio.current_time()
        self.due = self._changed + FIRST_NOTICE
        """When it is worth a line in the log, on trio's clock."""

    def enter(self, state: str, reason: str = "", *, expected: bool = False) -> None:
        """Change the state, and start its clock anew if it is another one."""
        if state != self.state:
            self.state = state
            self._changed = trio.current_time()
            self.due = self._changed + FIRST_NOTICE
        self.reason = reason
        self.expected = expected

    def explain(self, reason: str) -> None:
        """Change the reason within the same state: something is not as it should be."""
        self.reason = reason
        self.expected = False

    @property
    def since(self) -> float:
        """Seconds in the present state."""
        return trio.current_time() - self._changed

    def snapshot(self) -> Pending:
        """The row as a value."""
        try:
            now = trio.current_time()
        except RuntimeError:  # looked at from outside, as a debugger does: no time has passed there
            now = self._changed
        return Pending(
            name=self.name,
            kind=self.kind,
            state=self.state,
            reason=self.reason or _REASONS.get(self.state, ""),
            age=now - self._opened,
            since=now - self._changed,
            expected=self.expected,
        )


class PendingTable:
    """All rows, oldest first."""

    def __init__(self) -> None:
        self._entries: dict[int, PendingEntry] = {}
        self._opened = trio.lowlevel.ParkingLot()

    def open(self, name: str, kind: str, state: str) -> PendingEntry:
        """Add a row; its owner calls ``close`` when the thing has ended."""
        entry = PendingEntry(name, kind, state)
        self._entries[id(entry)] = entry
        if self._opened:
            self._opened.unpark_all()
        return entry

    def close(self, entry: PendingEntry) -> None:
        """Remove a row; a row that is gone already is no error."""
        self._entries.pop(id(entry), None)

    @contextmanager
    def track(self, name: str, kind: str, state: str) -> Generator[PendingEntry]:
        """A row for the length of the block."""
        entry = self.open(name, kind, state)
        try:
            yield entry
        finally:
            self.close(entry)

    async def until_any(self) -> None:
        """Wait until there is a row."""
        if self._entries:
            await trio.lowlevel.checkpoint()
        else:
            await self._opened.park()

    def entries(self) -> tuple[PendingEntry, ...]:
        """The live rows, oldest first."""
        return tuple(self._entries.values())

    def snapshot(self) -> tuple[Pending, ...]:
        """Every row as a value, oldest first."""
        return tuple(entry.snapshot() for entry in self._entries.values())

    def lines(self) -> tuple[str, ...]:
        """Every row as a line of text: the same that timeouts and outage errors show."""
        return tuple(str(row) for row in self.snapshot())


def span(seconds: float) -> str:
    """``seconds`` for people: "9.5 s", "3 m 20 s", "2 h 05 m"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} m"
