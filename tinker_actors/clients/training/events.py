"""What happens to models, among the events of the runtime's actor system."""

from __future__ import annotations

from supervision import Event

__all__ = ["ModelRebuilt", "ReplayDiffers"]


class ModelRebuilt(Event, frozen=True, eq=False):
    """Another model has taken the place of a lost one; ``replays`` operations are applied to it again."""

    model_id: str
    cause: str
    replays: int


class ReplayDiffers(Event, frozen=True, eq=False):
    """Operation ``op_no`` has given something else when it was applied again: the server is not deterministic."""

    op_no: int
