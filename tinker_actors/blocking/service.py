"""The ServiceClient for threads and asyncio."""

from __future__ import annotations

from types import TracebackType
from typing import Self, final

from tinker_actors.blocking.delegate import Handle, answered, at_once, blocking
from tinker_actors.blocking.rest import RestClient
from tinker_actors.blocking.sampling import SamplingClient
from tinker_actors.blocking.telemetry import telemetry_of
from tinker_actors.blocking.training import TrainingClient
from tinker_actors.clients import service as clients
from tinker_actors.config import Config
from tinker_actors.server_class import ServerClass
from tinker_actors.sessions import SessionState

__all__ = ["ServiceClient"]


@final
class ServiceClient(Handle[clients.ServiceClient]):
    """One session at a server: ``tinker_actors.ServiceClient`` for plain threads and asyncio."""

    get_server_capabilities = blocking(clients.ServiceClient.get_server_capabilities)
    get_server_capabilities_async = at_once(clients.ServiceClient.get_server_capabilities_async)
    create_lora_training_client = blocking(clients.ServiceClient.create_lora_training_client, TrainingClient)
    create_lora_training_client_async = at_once(
        clients.ServiceClient.create_lora_training_client_async, TrainingClient
    )
    create_training_client_from_state = blocking(
        clients.ServiceClient.create_training_client_from_state, TrainingClient
    )
    create_training_client_from_state_async = at_once(
        clients.ServiceClient.create_training_client_from_state_async, TrainingClient
    )
    create_training_client_from_state_with_optimizer = blocking(
        clients.ServiceClient.create_training_client_from_state_with_optimizer, TrainingClient
    )
    create_training_client_from_state_with_optimizer_async = at_once(
        clients.ServiceClient.create_training_client_from_state_with_optimizer_async, TrainingClient
    )
    create_sampling_client = blocking(clients.ServiceClient.create_sampling_client, SamplingClient)
    create_sampling_client_async = at_once(clients.ServiceClient.create_sampling_client_async, SamplingClient)
    copy_weights = blocking(clients.ServiceClient.copy_weights)
    copy_weights_async = at_once(clients.ServiceClient.copy_weights_async)
    create_rest_client = blocking(clients.ServiceClient.create_rest_client, RestClient)
    create_rest_client_async = at_once(clients.ServiceClient.create_rest_client_async, RestClient)
    download_checkpoint = blocking(clients.ServiceClient.download_checkpoint)
    download_checkpoint_async = at_once(clients.ServiceClient.download_checkpoint_async)
    close = blocking(clients.ServiceClient.close)
    aclose = blocking(clients.ServiceClient.aclose)
    usage = answered(clients.ServiceClient.usage)
    get_telemetry = answered(clients.ServiceClient.get_telemetry, telemetry_of)
    _leave = blocking(clients.ServiceClient.__aexit__)

    @property
    def server_class(self) -> ServerClass | None:
        """What the server does with a training request that comes twice; None until that is known."""
        return self._read("server_class", lambda inner: inner.server_class)

    @property
    def session_id(self) -> str:
        """The server's id of the session."""
        return self._read("session_id", lambda inner: inner.session_id)

    @property
    def config(self) -> Config:
        """The configuration that the session works by; printing it shows no secret."""
        return self._read("config", lambda inner: inner.config)

    @property
    def state(self) -> SessionState:
        """creating, active, finished or lost."""
        return self._read("state", lambda inner: inner.state)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it: as a success, or as errored or interrupted by what left the block."""
        self._leave(kind, error, trace)
