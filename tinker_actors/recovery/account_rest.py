"""How the runtime's own clients are asked about: with its own connections, once, since the next question comes."""

from __future__ import annotations

from typing import final

from tinker_actors.types import CheckpointsListResponse, TrainingRun
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints.checkpoints import list_checkpoints
from tinker_actors.wire.endpoints.listings import get_training_run

__all__ = ["AccountRest"]


@final
class AccountRest:
    """A RestBehaviour without an actor of its own."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def get_training_run(self, training_run_id: str, /) -> TrainingRun:
        """The run, or the APIError of one attempt."""
        return await get_training_run(self._api, training_run_id)

    async def list_checkpoints(self, training_run_id: str, /) -> CheckpointsListResponse:
        """The run's checkpoints, or the APIError of one attempt."""
        return await list_checkpoints(self._api, training_run_id)
