"""Clients: handles that programs hold, and the actors behind them."""

from tinker_actors.clients.rest import RestClient
from tinker_actors.clients.sampler_handle import SamplerHandle
from tinker_actors.clients.sampling import SamplingClient
from tinker_actors.clients.service import ServiceClient
from tinker_actors.clients.training import TrainingClient

__all__ = ["RestClient", "SamplerHandle", "SamplingClient", "ServiceClient", "TrainingClient"]
