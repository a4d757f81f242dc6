"""What was completed of one sampler's requests, in order: what the session poller asks for (WIRE 3.7)."""

from __future__ import annotations

from collections import deque
from typing import Final, final

import trio

__all__ = ["CLONE_BLOCK", "Completions"]

CLONE_BLOCK: Final = 1_000_000_000
"""A sampler's seq_ids from n times this on are those of its clone number n (WIRE 4.5)."""


@final
class Completions:
    """Of each clone, the ids of the promises that have their result, numbered 1, 2, 3, ... in the order in which they
    got it. Ids, not futures: a result lives no longer than its retention.
    """

    def __init__(self) -> None:
        self._by_clone: dict[int, deque[tuple[int, str]]] = {}
        self._counts: dict[int, int] = {}
        self._arrived: dict[int, trio.Event] = {}

    def add(self, seq_id: int, request_id: str) -> None:
        """The request ``seq_id`` has its result."""
        clone = seq_id // CLONE_BLOCK
        number = self._counts[clone] = self._counts.get(clone, 0) + 1
        self._by_clone.setdefault(clone, deque()).append((number, request_id))
        arrived = self._arrived.pop(clone, None)
        if arrived is not None:
            arrived.set()

    def after(self, clone: int, cursor: int) -> tuple[tuple[int, str], ...]:
        """What was completed after number ``cursor``. What came before counts as seen, and is forgotten."""
        entries = self._by_clone.get(clone, deque[tuple[int, str]]())
        while entries and entries[0][0] <= cursor:
            entries.popleft()
        return tuple(entries)

    def next(self, clone: int) -> trio.Event:
        """Set when something more is completed."""
        return self._arrived.setdefault(clone, trio.Event())
