"""The messages of a training client's actor."""

from __future__ import annotations

from supervision import Call, Cast
from tinker_actors.types import GetInfoResponse, UnloadModelResponse

__all__ = ["GetInfo", "LoseModel", "Unload", "Wake"]


class Wake(Cast, frozen=True):
    """The ledger has accepted operation ``op_no``."""

    op_no: int


class GetInfo(Call[GetInfoResponse], frozen=True):
    """Ask the server for the model's description."""


class Unload(Call[UnloadModelResponse], frozen=True):
    """Have the server free the model."""


class LoseModel(Cast, frozen=True):
    """``model_id`` can't be trained on, as ``cause`` says: have another one take its place."""

    model_id: str
    cause: str
