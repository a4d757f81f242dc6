"""Server capabilities, client configuration and sessions."""

from __future__ import annotations

import msgspec

__all__ = [
    "ClientConfig",
    "CreateSamplingSessionResponse",
    "CreateSessionResponse",
    "GetServerCapabilitiesResponse",
    "SupportedModel",
]


class CreateSessionResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A session was created; each message is meant for the user's log, at its level."""

    session_id: str
    info_message: str | None = None
    warning_message: str | None = None
    error_message: str | None = None


class CreateSamplingSessionResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A sampling session was created: the server's id of one set of weights to sample from."""

    sampling_session_id: str


class SupportedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A base model that the server offers; ``max_context_length`` in tokens."""

    model_name: str | None = None
    max_context_length: int | None = None
    trainable: bool | None = None
    sampleable: bool | None = None


class GetServerCapabilitiesResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What the server offers."""

    supported_models: tuple[SupportedModel, ...]


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a server asks its clients to do; every default is that of the official SDK 0.38."""

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
