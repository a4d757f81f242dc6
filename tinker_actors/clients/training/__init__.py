"""The TrainingClient: its handle, its actor, its send lane."""

from tinker_actors.clients.training.actor import TrainingActor
from tinker_actors.clients.training.client import TrainingClient
from tinker_actors.clients.training.model import Model

__all__ = ["Model", "TrainingActor", "TrainingClient"]
