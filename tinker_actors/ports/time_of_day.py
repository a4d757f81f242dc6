"""The time of day, for what people and servers read: the runtime itself lives by trio's clock alone."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import trio

__all__ = ["time_of_day"]

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def time_of_day() -> datetime:
    """Now. Under a virtual clock, where there is no such thing: 2000-01-01 plus the seconds of that clock."""
    testing = sys.modules.get("trio.testing")
    if testing is not None and isinstance(trio.lowlevel.current_clock(), testing.MockClock):
        return _EPOCH + timedelta(seconds=trio.current_time())
    return datetime.now(UTC)
