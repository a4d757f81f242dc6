"""What happens to models, among the events of the runtime's actor system."""

from __future__ import annotations

from supervision import Event

__all__ = ["ModelGivenUp", "ModelRebuilt", "ReplayDiffers"]


class ModelRebuilt(Event, frozen=True, eq=False):
    """Another model has taken the place of a lost one; ``replays`` operations are applied to it again.

    It goes on from ``checkpoint``, a tinker path; None: as ``lost`` was created.
    """

    model_id: str
    cause: str
    replays: int
    lost: str
    checkpoint: str | None


class ModelGivenUp(Event, frozen=True, eq=False):
    """A training client takes no more operations, and its model stays as it is, if it is there at all.

    ``trigger`` is what of a RecoveryPolicy's that was; "" after a recovery that has failed.
    """

    model_id: str
    trigger: str
    reason: str


class ReplayDiffers(Event, frozen=True, eq=False):
    """Operation ``op_no`` has given something else when it was applied again: the server is not deterministic."""

    op_no: int
