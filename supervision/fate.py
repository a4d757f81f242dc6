"""What a supervisor decides about a child that has ended."""

from __future__ import annotations

import msgspec

from supervision.errors import CrashReport

__all__: list[str] = []


class Fate(msgspec.Struct, frozen=True, eq=False):
    """restart: its own timer brings it back after `delay`; held: its supervisor will bring it back; close: it is
    over; done: it is over, and it was significant; degrade: it is over, for it crashed too often.
    """

    kind: str
    delay: float = 0.0
    history: tuple[CrashReport, ...] = ()

    @property
    def restarts(self) -> bool:
        return self.kind in {"restart", "held"}


HELD = Fate("held")
CLOSE = Fate("close")
DONE = Fate("done")
