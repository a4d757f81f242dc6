"""What happens to sessions, among the events of the runtime's actor system."""

from __future__ import annotations

from supervision import Event

__all__ = ["SessionLost", "SessionRenewed"]


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
