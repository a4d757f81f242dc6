"""What a supervisor decides about a child that has ended."""

from __future__ import annotations

from typing import final

from supervision.errors import CrashReport

__all__: list[str] = []


@final
class Fate:
    """restart: its own timer brings it back after `delay`; held: its supervisor will bring it back; close: it is
    over; done: it is over, and it was significant; degrade: it is over, for it crashed too often.
    """

    __slots__ = ("delay", "history", "kind")

    def __init__(self, kind: str, delay: float = 0.0, history: tuple[CrashReport, ...] = ()) -> None:
        self.kind = kind
        self.delay = delay
        self.history = history

    @property
    def restarts(self) -> bool:
        return self.kind in {"restart", "held"}


HELD = Fate("held")
CLOSE = Fate("close")
DONE = Fate("done")
