"""Counters by name."""

from __future__ import annotations

from collections import Counter

__all__ = ["Counters"]


class Counters:
    """Named whole numbers that only grow. Reading and adding cost a dictionary access."""

    def __init__(self) -> None:
        self._values: Counter[str] = Counter()

    def add(self, name: str, amount: int = 1) -> None:
        """Add ``amount`` to ``name``."""
        self._values[name] += amount

    def snapshot(self) -> dict[str, int]:
        """All counters now."""
        return dict(self._values)
