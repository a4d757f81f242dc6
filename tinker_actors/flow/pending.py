"""What waits, and why: one table for everything that is under way and has not finished."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import msgspec
import trio

__all__ = ["Pending", "PendingEntry", "PendingTable"]


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that waits. ``age`` and ``since`` (time in the present state) are in seconds."""

    name: str
    kind: str
    state: str
    reason: str
    age: float
    since: float

    def __str__(self) -> str:
        text = f"{self.name} {self.kind}: {self.state} for {self.since:.1f} s"
        return f"{text} ({self.reason})" if self.reason else text


class PendingEntry:
    """The live row of one thing that waits; its owner sets ``state`` and ``reason``."""

    __slots__ = ("_changed", "_opened", "kind", "name", "reason", "state")

    def __init__(self, name: str, kind: str, state: str) -> None:
        self.name = name
        self.kind = kind
        self.state = state
        self.reason = ""
        self._opened = self._changed = trio.current_time()

    def enter(self, state: str, reason: str = "") -> None:
        """Change the state, and start its clock anew if it is another one."""
        if state != self.state:
            self.state = state
            self._changed = trio.current_time()
        self.reason = reason

    def explain(self, reason: str) -> None:
        """Change the reason within the same state."""
        self.reason = reason

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
            reason=self.reason,
            age=now - self._opened,
            since=now - self._changed,
        )


class PendingTable:
    """All rows, oldest first."""

    def __init__(self) -> None:
        self._entries: dict[int, PendingEntry] = {}

    def open(self, name: str, kind: str, state: str) -> PendingEntry:
        """Add a row; its owner calls ``close`` when the thing has ended."""
        entry = PendingEntry(name, kind, state)
        self._entries[id(entry)] = entry
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

    def snapshot(self) -> tuple[Pending, ...]:
        """Every row as a value, oldest first."""
        return tuple(entry.snapshot() for entry in self._entries.values())

    def lines(self) -> tuple[str, ...]:
        """Every row as a line of text: the same that timeouts and outage errors show."""
        return tuple(str(row) for row in self.snapshot())
