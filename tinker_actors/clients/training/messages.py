"""The messages of a training client's actor."""

from __future__ import annotations

from supervision import Call, Cast
from tinker_actors.types import GetInfoResponse

__all__ = ["GetInfo", "Wake"]


class Wake(Cast, frozen=True):
    """The ledger has accepted operation ``op_no``."""

    op_no: int


class GetInfo(Call[GetInfoResponse], frozen=True):
    """Ask the server for the model's description."""
