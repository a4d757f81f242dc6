"""What happens to runs that are recovered, among the events of the runtime's actor system."""

from __future__ import annotations

from collections.abc import Mapping

from supervision import Event

__all__ = [
    "CheckpointSelected",
    "RecoveryCallbackFailed",
    "RecoveryClientCreated",
    "RecoveryCompleted",
    "RecoveryDetected",
    "RecoveryEvent",
    "RecoveryExhausted",
    "RecoveryFailure",
    "RecoveryPollError",
    "RecoveryStarted",
]


class RecoveryEvent(Event, frozen=True, eq=False):
    """Something that concerns ``run_id``; ``metadata`` is what the run was put under watch, or recovered, with."""

    run_id: str
    metadata: Mapping[str, str]


class RecoveryDetected(RecoveryEvent, frozen=True, eq=False):
    """The run is lost, or can't go on, by ``cause``. ``checkpoint`` is its newest, where the server has said so."""

    cause: str
    checkpoint: str | None


class RecoveryPollError(RecoveryEvent, frozen=True, eq=False):
    """The server could not be asked about the run, which stays under watch."""

    error: str


class RecoveryStarted(RecoveryEvent, frozen=True, eq=False):
    """Attempt number ``attempt``, from 1, begins; ``strategy`` is "latest", "best" or a tinker path."""

    attempt: int
    strategy: str


class CheckpointSelected(RecoveryEvent, frozen=True, eq=False):
    """The attempt goes on from ``checkpoint``."""

    attempt: int
    checkpoint: str


class RecoveryClientCreated(RecoveryEvent, frozen=True, eq=False):
    """The attempt has a training client, of ``model_id``."""

    attempt: int
    model_id: str


class RecoveryCompleted(RecoveryEvent, frozen=True, eq=False):
    """The run goes on as ``model_id``; ``checkpoint`` None: as it was created, all of it applied again.

    ``attempt`` is 0 where it goes on in its own client.
    """

    attempt: int
    model_id: str
    checkpoint: str | None


class RecoveryFailure(RecoveryEvent, frozen=True, eq=False):
    """An attempt has failed by ``error``; when that is ``permanent``, there is no other."""

    attempt: int
    error: str
    permanent: bool


class RecoveryExhausted(RecoveryEvent, frozen=True, eq=False):
    """The run is given up after ``attempts``, the last of which failed by ``error``."""

    attempts: int
    error: str


class RecoveryCallbackFailed(RecoveryEvent, frozen=True, eq=False):
    """``callback``, on_recovery or on_failure, has raised ``error``. Nothing else came of it."""

    callback: str
    error: str
