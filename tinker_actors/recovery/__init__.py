"""Runs that their server or process has lost, and how they go on: watched, recovered into new clients, as jobs."""

from tinker_actors.recovery.behaviours import CheckpointChooser, RestBehaviour, ServiceBehaviour
from tinker_actors.recovery.front import Recovery, RecoveryInfo
from tinker_actors.recovery.queue import RecoveredRun, RecoveryState

__all__ = [
    "CheckpointChooser",
    "Recovery",
    "RecoveredRun",
    "RecoveryInfo",
    "RecoveryState",
    "RestBehaviour",
    "ServiceBehaviour",
]
