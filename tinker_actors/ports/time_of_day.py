"""The time of day, for what people and servers read: the runtime itself lives by trio's clock alone."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import trio

__all__ = ["set_ahead", "time_of_day"]

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_AHEAD: trio.lowlevel.RunVar[float] = trio.lowlevel.RunVar("seconds that the time of day is ahead", 0.0)


def time_of_day() -> datetime:
    """Now. Under a virtual clock, where there is no such thing: 2000-01-01 plus the seconds of that clock."""
    testing = sys.modules.get("trio.testing")
    if testing is not None and isinstance(trio.lowlevel.current_clock(), testing.MockClock):
        return _EPOCH + timedelta(seconds=trio.current_time() + _AHEAD.get())
    return datetime.now(UTC)


def set_ahead(seconds: float) -> None:
    """Let the time of day jump by ``seconds``, in this run of trio, under a virtual clock: as when it is set anew."""
    _AHEAD.set(_AHEAD.get() + seconds)
