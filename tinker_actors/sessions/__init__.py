"""Sessions: created, kept alive by heartbeats, finished."""

from tinker_actors.sessions.ending import SessionEnd, SessionStatus, end_for
from tinker_actors.sessions.events import SessionLost, SessionRenewed
from tinker_actors.sessions.heartbeat import Heartbeat
from tinker_actors.sessions.joiner import SessionJoiner
from tinker_actors.sessions.limits import LimitsStatistics, SessionLimits
from tinker_actors.sessions.manager import SessionManager
from tinker_actors.sessions.queue_observer import QueueObserver
from tinker_actors.sessions.session import Session, SessionState

__all__ = [
    "Heartbeat",
    "LimitsStatistics",
    "QueueObserver",
    "Session",
    "SessionEnd",
    "SessionJoiner",
    "SessionLimits",
    "SessionLost",
    "SessionManager",
    "SessionRenewed",
    "SessionState",
    "SessionStatus",
    "end_for",
]
