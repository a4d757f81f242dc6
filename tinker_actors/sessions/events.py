"""What happens to sessions, among the events of the runtime's actor system."""

from __future__ import annotations

from supervision import Event
from tinker_actors.errors import TinkerError
from tinker_actors.server_class import ServerClass

__all__ = [
    "CheckpointFailed",
    "CheckpointPruned",
    "CheckpointSaved",
    "ServerClassFound",
    "SessionLost",
    "SessionRenewed",
]


class CheckpointSaved(Event, frozen=True, eq=False):
    """The client at ``path`` has saved its state by itself: ``checkpoint`` shows it after ``step`` optim_steps."""

    checkpoint: str
    step: int


class CheckpointFailed(Event, frozen=True, eq=False):
    """The client at ``path`` could not save its state as ``name``. It tries again with its next optim_step."""

    name: str
    error: TinkerError


class CheckpointPruned(Event, frozen=True, eq=False):
    """The automatic checkpoint ``checkpoint`` was deleted, since its policy keeps others."""

    checkpoint: str


class SessionLost(Event, frozen=True, eq=False):
    """The server has ended the session at ``path``: its models and samplers are gone, its checkpoints are not.

    ``runtime.system.events.subscribe(...)`` tells of it, once for each session.
    """

    session_id: str
    reason: str
    """The server's words."""


class SessionRenewed(Event, frozen=True, eq=False):
    """Another session of the server's has taken the place of the lost one at ``path``."""

    session_id: str


class ServerClassFound(Event, frozen=True, eq=False):
    """It is known what the server of the session does with a repeated training request; ``how`` says from where."""

    server_class: ServerClass
    how: str
