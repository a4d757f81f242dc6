"""Server capabilities, client configuration and sessions."""

from __future__ import annotations

from typing import Literal

import msgspec

from tinker_actors.types.checked import Checked
from tinker_actors.types.futures import Id

__all__ = [
    "ApiKeyDetails",
    "ApiKeyInfo",
    "ApiKeyOrganization",
    "ApiKeyUser",
    "AuthTokenResponse",
    "ClientConfig",
    "ClientConfigRequest",
    "ClientDynamicConfig",
    "CreateSamplingSessionResponse",
    "CreateSessionResponse",
    "GetServerCapabilitiesResponse",
    "HealthResponse",
    "JoinSamplingSessionRequest",
    "JoinSamplingSessionResponse",
    "SupportedModel",
]

_SHORTEST_REFRESH = 10


class CreateSessionResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A session was created; each message is meant for the user's log, at its level."""

    session_id: Id
    info_message: str | None = None
    warning_message: str | None = None
    error_message: str | None = None


class CreateSamplingSessionResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A sampling session was created: the server's id of one set of weights to sample from."""

    sampling_session_id: Id


class SupportedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A base model that the server offers; ``max_context_length`` in tokens."""

    model_name: str | None = None
    max_context_length: int | None = None
    trainable: bool | None = None
    sampleable: bool | None = None


class GetServerCapabilitiesResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What the server offers."""

    supported_models: tuple[SupportedModel, ...]

    @property
    def model_names(self) -> tuple[str, ...]:
        """The names of all models that have one."""
        return tuple(model.model_name for model in self.supported_models if model.model_name is not None)


class HealthResponse(Checked, frozen=True, kw_only=True):
    """The server is up."""

    status: Literal["ok"] = "ok"


class JoinSamplingSessionRequest(Checked, frozen=True, kw_only=True):
    """POST /join_sampling_session: one more client of a sampling session."""

    sampling_session_id: str


class JoinSamplingSessionResponse(Checked, frozen=True, kw_only=True):
    """A number that no other client of the sampling session has; the first client is 0."""

    client_counter: int


class AuthTokenResponse(Checked, frozen=True, kw_only=True):
    """POST /auth/token: a token for the requests of the next while. Never shows it."""

    jwt: str

    def __repr__(self) -> str:
        return "AuthTokenResponse(jwt=...)"


class ApiKeyOrganization(Checked, frozen=True, kw_only=True):
    """The organization that an API key belongs to."""

    name: str | None = None


class ApiKeyUser(Checked, frozen=True, kw_only=True):
    """The user that an API key belongs to."""

    email: str | None = None


class ApiKeyDetails(Checked, frozen=True, kw_only=True):
    """Whose an API key is."""

    org_details: ApiKeyOrganization | None = None
    user_details: ApiKeyUser | None = None


class ApiKeyInfo(Checked, frozen=True, kw_only=True):
    """GET /auth/apikey/me: what the service knows of the key that asks."""

    key_id: int
    name: str | None = None
    note: str | None = None
    details: ApiKeyDetails | None = None


class ClientConfigRequest(Checked, frozen=True, kw_only=True):
    """POST /client/config and /client/dynamic_config."""

    sdk_version: str


class ClientDynamicConfig(Checked, frozen=True, kw_only=True):
    """What a server may change while clients run: ask again every ``refresh_interval_sec`` seconds."""

    refresh_interval_sec: int = 300
    sample_cancel_enabled: bool = False
    sample_cancel_max_batch_size: int = 64

    @property
    def refresh_interval(self) -> int:
        """Seconds until the next question: never less than 10."""
        return max(self.refresh_interval_sec, _SHORTEST_REFRESH)


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a server asks its clients to do; every default is that of the official SDK 0.38.

    ``server_class`` is of this project's own: what the server does with a repeated request, where it says so.
    """

    pjwt_auth_enabled: bool = False
    credential_default_source: str = "api_key"
    sample_dispatch_bytes_semaphore_size: int = 10_485_760
    inflight_response_bytes_semaphore_size: int = 52_428_800
    parallel_fwdbwd_chunks: bool = True
    proto_compress_fwdbwd: bool = False
    fwdbwd_max_chunk_len: int = 1024
    fwdbwd_max_chunk_bytes_count: int = 5_000_000
    fwdbwd_dispatch_bytes_semaphore_size: int = 50_000_000
    billing_exception_max_pause_duration_sec: float = 3600.0
    sample_no_retries: bool = False
    sample_enable_stuck_detection: bool = True
    sample_max_concurrent_requests: int = 2000
    use_pyqwest_transport: bool = True
    sample_use_retrieve_futures: bool = False
    custom_loss_server_side: bool = False
    sample_join_sampling_session: bool = False
    server_class: str | None = None
