"""Training runs as servers list them."""

from __future__ import annotations

from collections.abc import Mapping

from tinker_actors.types.checked import Checked, Timestamp
from tinker_actors.types.checkpoints import Checkpoint, Cursor

__all__ = ["TrainingRun", "TrainingRunsResponse"]


class TrainingRun(Checked, frozen=True, kw_only=True):
    """One model that is or was trained; ``corrupted`` ones can't be continued."""

    training_run_id: str
    base_model: str
    model_owner: str
    is_lora: bool
    last_request_time: Timestamp
    corrupted: bool = False
    lora_rank: int | None = None
    last_checkpoint: Checkpoint | None = None
    last_sampler_checkpoint: Checkpoint | None = None
    user_metadata: Mapping[str, str] | None = None


class TrainingRunsResponse(Checked, frozen=True, kw_only=True):
    """A part of the caller's training runs."""

    training_runs: tuple[TrainingRun, ...]
    cursor: Cursor
