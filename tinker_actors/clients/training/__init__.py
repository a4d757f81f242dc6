"""The TrainingClient: its handle, its actor, its send lane."""

from tinker_actors.clients.training.actor import TrainingActor
from tinker_actors.clients.training.client import TrainingClient
from tinker_actors.clients.training.model import Model, Source
from tinker_actors.clients.training.start import start_training_client

__all__ = ["Model", "Source", "TrainingActor", "TrainingClient", "start_training_client"]
