"""What happens to models, among the events of the runtime's actor system."""

from __future__ import annotations

from collections.abc import Mapping

from supervision import Event

__all__ = ["DecisionDue", "ModelGivenUp", "ModelMissed", "ModelRebuilt", "ReplayDiffers", "StateSaved"]


class ModelMissed(Event, frozen=True, eq=False):
    """The model of a training client is lost, or can't be used; another one is to take its place.

    ``trigger`` is what of a RecoveryPolicy's that is; "" after a recovery that has come to it itself.
    """

    model_id: str
    trigger: str
    cause: str


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

    ``trigger`` is what of a RecoveryPolicy's that was; "" after a recovery that has failed, "abandoned" when its user
    has said so.
    """

    model_id: str
    trigger: str
    reason: str


class DecisionDue(Event, frozen=True, eq=False):
    """A training client waits for its user to call ``restore``, ``assume_applied`` or ``abandon``."""

    model_id: str
    reason: str


class ReplayDiffers(Event, frozen=True, eq=False):
    """Operation ``op_no`` has given something else when it was applied again: the server is not deterministic."""

    op_no: int


class StateSaved(Event, frozen=True, eq=False):
    """A state was saved as ``checkpoint``, a tinker path; ``metrics`` are those of the latest result before it."""

    checkpoint: str
    metrics: Mapping[str, float]
