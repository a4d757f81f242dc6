"""What recovery asks others for: protocols, so that programs and tests may put theirs in the place of the usual."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from tinker_actors.types import CheckpointsListResponse, TrainingRun

__all__ = ["CheckpointChooser", "RestBehaviour", "ServiceBehaviour"]


@runtime_checkable
class RestBehaviour(Protocol):
    """Knows of runs and checkpoints: a RestClient does."""

    async def get_training_run(self, training_run_id: str, /) -> TrainingRun:
        """The run; what it raises is an error of this question alone."""
        ...

    async def list_checkpoints(self, training_run_id: str, /) -> CheckpointsListResponse:
        """The run's checkpoints, in any order."""
        ...


@runtime_checkable
class ServiceBehaviour(Protocol):
    """Makes clients: a ServiceClient does. Of a call that is cancelled, or raises, no client may be left."""

    async def create_rest_client(self) -> RestBehaviour:
        """Who is to be asked for the runs that this service watches or recovers."""
        ...

    async def create_training_client_from_state(self, path: str, /) -> Any:
        """A training client with the weights of ``path``; its ``model_id`` is the new run's."""
        ...

    async def create_training_client_from_state_with_optimizer(self, path: str, /) -> Any:
        """The same with the optimizer's state."""
        ...


class CheckpointChooser(Protocol):
    """Picks where a run goes on from."""

    async def choose(self, run_id: str, given: str | None, rest: RestBehaviour, /) -> str:
        """A tinker path of a training checkpoint. ``given`` is one that the caller knows of.

        Raises InvalidInput or a RecoveryFailed where there is none to be had: then no other attempt is made.
        """
        ...
