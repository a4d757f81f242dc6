"""Time of day, for what people read: the server itself lives by trio's clock alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import trio

__all__ = ["Now", "trio_now"]

Now: TypeAlias = Callable[[], datetime]

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def trio_now() -> datetime:
    """2000-01-01 plus the seconds of trio's clock: reproducible in simulation, where there is no time of day."""
    return _EPOCH + timedelta(seconds=trio.current_time())
