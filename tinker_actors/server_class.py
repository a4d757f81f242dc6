"""ServerClass: what a server makes of a training request that comes again under its seq_id."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["ServerClass"]


class ServerClass(StrEnum):
    """What a server does with a repeated (model, seq_id), which decides what may be sent again."""

    DEDUP = "dedup"
    """It gives the first promise: the hosted service, SkyRL and the local server (WIRE 4.1, 11.1)."""
    ORDERED = "ordered"
    """It refuses every seq_id but the next one, and names that: TuFT (WIRE 11.1)."""
    NONE = "none"
    """It does it again, so nothing that may have arrived is ever sent again."""
