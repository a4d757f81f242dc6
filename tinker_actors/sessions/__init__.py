"""Sessions: created, kept alive by heartbeats, finished."""

from tinker_actors.sessions.checkpoint_keeper import CheckpointKeeper
from tinker_actors.sessions.ending import SessionEnd, SessionStatus, end_for
from tinker_actors.sessions.events import (
    CheckpointFailed,
    CheckpointPruned,
    CheckpointSaved,
    ServerClassFound,
    SessionLost,
    SessionRenewed,
)
from tinker_actors.sessions.heartbeat import Heartbeat
from tinker_actors.sessions.joiner import SessionJoiner
from tinker_actors.sessions.kept_checkpoints import KeptCheckpoint, KeptCheckpoints, SavedCheckpoint
from tinker_actors.sessions.limits import LimitsStatistics, SessionLimits
from tinker_actors.sessions.manager import SessionManager
from tinker_actors.sessions.queue_observer import QueueObserver
from tinker_actors.sessions.recognition import of_ids, of_server
from tinker_actors.sessions.session import Session, SessionState

__all__ = [
    "CheckpointFailed",
    "CheckpointKeeper",
    "CheckpointPruned",
    "CheckpointSaved",
    "Heartbeat",
    "KeptCheckpoint",
    "KeptCheckpoints",
    "LimitsStatistics",
    "QueueObserver",
    "SavedCheckpoint",
    "ServerClassFound",
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
    "of_ids",
    "of_server",
]
