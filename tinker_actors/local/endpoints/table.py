"""Every endpoint: method, path below the server's root, what its body decodes to, and what it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec

from tinker_actors.local.endpoints import (
    administration,
    auth,
    checkpoints,
    copies,
    custom_losses,
    downloads,
    extras,
    futures,
    listings,
    models,
    runs,
    sampling,
    service,
    session_listings,
    sessions,
    traces,
    training,
)
from tinker_actors.local.endpoints.incoming import Incoming
from tinker_actors.local.endpoints.query import Scope
from tinker_actors.local.service import LocalService
from tinker_actors.local.signatures import Signature
from tinker_actors.types import (
    CancelFutureRequest,
    CopyWeightsRequest,
    CreateCustomLossRequest,
    CreateModelRequest,
    CreateSamplingSessionRequest,
    CreateSessionRequest,
    FinishSessionRequest,
    ForwardBackwardRequest,
    JoinSamplingSessionRequest,
    LoadWeightsRequest,
    ModelIdRequest,
    OptimStepRequest,
    RetrieveFutureRequest,
    RetrieveFuturesRequest,
    SampleRequest,
    SaveWeightsExternalRequest,
    SaveWeightsForSamplerRequest,
    SaveWeightsRequest,
    SessionIdRequest,
    SessionSearchRequest,
    SetTtlRequest,
    TinkerPathRequest,
)

__all__ = ["ENDPOINTS", "Endpoint"]

T = TypeVar("T")


class Endpoint(msgspec.Struct, Generic[T], frozen=True):
    """One endpoint. ``body`` is what a GET's query, or any other's body, decodes to. ``open`` ones need no key."""

    method: str
    path: str
    body: type[T]
    call: Callable[[LocalService, Incoming[T]], Awaitable[object]]
    open: bool = False


_NONE = type(None)
_RUN = "/training_runs/{run_id}"
_DOWNLOAD = "/local/download/{run_id}/{checkpoint_id:path}/{file}"
_CHECKPOINT = _RUN + "/checkpoints/{checkpoint_id:path}"  # an id has a slash in it: <kind>/<name>

ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint("GET", "/healthz", _NONE, service.healthz, open=True),
    Endpoint("POST", "/client/config", service.ClientConfigRequest, service.client_config),
    Endpoint("POST", "/client/dynamic_config", service.ClientConfigRequest, service.dynamic_config),
    Endpoint("POST", "/auth/token", _NONE, auth.auth_token),
    Endpoint("GET", "/auth/apikey/me", _NONE, auth.describe_key),
    Endpoint("DELETE", "/auth/apikey/me", _NONE, auth.revoke_key),
    Endpoint("GET", "/get_server_capabilities", _NONE, service.capabilities),
    Endpoint("POST", "/telemetry", service.TelemetryBatch, service.telemetry),
    Endpoint("POST", "/create_session", CreateSessionRequest, sessions.create_session),
    Endpoint("POST", "/session_heartbeat", SessionIdRequest, sessions.session_heartbeat),
    Endpoint("POST", "/sessions/{session_id}/finish", FinishSessionRequest, sessions.finish_session),
    Endpoint("POST", "/create_model", CreateModelRequest, models.create_model),
    Endpoint("POST", "/get_info", ModelIdRequest, models.get_info),
    Endpoint("POST", "/unload_model", ModelIdRequest, models.unload_model),
    Endpoint("POST", "/forward_backward", ForwardBackwardRequest, training.forward_backward),
    Endpoint("POST", "/forward", ForwardBackwardRequest, training.forward),
    Endpoint("POST", "/optim_step", OptimStepRequest, training.optim_step),
    Endpoint("POST", "/create_custom_loss", CreateCustomLossRequest, custom_losses.create_custom_loss),
    Endpoint("POST", "/save_weights", SaveWeightsRequest, training.save_weights),
    Endpoint("POST", "/save_weights_for_sampler", SaveWeightsForSamplerRequest, training.save_weights_for_sampler),
    Endpoint("POST", "/save_weights_external", SaveWeightsExternalRequest, training.save_weights_external),
    Endpoint("POST", "/copy_weights", CopyWeightsRequest, copies.copy_weights),
    Endpoint("POST", "/load_weights", LoadWeightsRequest, training.load_weights),
    Endpoint("POST", "/weights_info", TinkerPathRequest, listings.weights_info),
    Endpoint("GET", "/training_runs", runs.RunsPage, runs.list_training_runs),
    Endpoint("GET", _RUN, Scope, runs.get_training_run),
    Endpoint("GET", _RUN + "/checkpoints", _NONE, listings.list_checkpoints),
    Endpoint("GET", "/models/{run_id}/checkpoints", _NONE, listings.list_checkpoints),
    Endpoint("GET", "/checkpoints", listings.CheckpointsPage, listings.list_user_checkpoints),
    Endpoint("POST", _CHECKPOINT + "/publish", _NONE, checkpoints.publish_checkpoint),
    Endpoint("DELETE", _CHECKPOINT + "/publish", _NONE, checkpoints.unpublish_checkpoint),
    Endpoint("PUT", _CHECKPOINT + "/ttl", SetTtlRequest, checkpoints.set_checkpoint_ttl),
    Endpoint("GET", _CHECKPOINT + "/archive", _NONE, downloads.archive_url),
    Endpoint("GET", _CHECKPOINT + "/external_weights_urls", _NONE, downloads.external_weights_urls),
    Endpoint("DELETE", _CHECKPOINT, _NONE, checkpoints.delete_checkpoint),
    Endpoint("GET", "/sessions", session_listings.SessionsPage, session_listings.list_sessions),
    Endpoint("GET", "/sessions/{session_id}", Scope, session_listings.get_session),
    Endpoint("PUT", "/sessions/{session_id}/project", session_listings.Project, session_listings.set_project),
    Endpoint("POST", "/sessions/search", SessionSearchRequest, session_listings.search_sessions),
    Endpoint("POST", "/create_sampling_session", CreateSamplingSessionRequest, sampling.create_sampling_session),
    Endpoint("POST", "/asample", SampleRequest, sampling.asample),
    Endpoint("GET", "/sessions/{session_id}/trace_export", _NONE, traces.trace_export),
    Endpoint("GET", "/local/trace/{session_id}.pftrace", Signature, traces.download_trace, open=True),
    Endpoint("GET", "/audit", administration.AuditQuery, administration.audit_log),
    Endpoint("GET", "/billing/usage/events", administration.UsageQuery, administration.billing_usage),
    Endpoint(
        "GET", "/billing/usage/checkpoints/current", administration.StorageQuery, administration.checkpoint_storage
    ),
    Endpoint("POST", "/join_sampling_session", JoinSamplingSessionRequest, sampling.join_sampling_session),
    Endpoint("POST", "/stream_sample", SampleRequest, sampling.stream_sample),
    Endpoint("GET", "/samplers/{sampling_session_id}", _NONE, sampling.get_sampler),
    Endpoint("POST", "/retrieve_future", RetrieveFutureRequest, futures.retrieve_future),
    Endpoint("POST", "/retrieve_futures", RetrieveFuturesRequest, futures.retrieve_futures),
    Endpoint("POST", "/cancel_future", CancelFutureRequest, futures.cancel_future),
    Endpoint("GET", "/local/applied/{model_id}", _NONE, extras.applied),
    Endpoint("GET", "/local/digest/{model_id}", _NONE, extras.digest),
    Endpoint("GET", "/local/queue", _NONE, extras.queue),
    Endpoint("GET", _DOWNLOAD, Signature, downloads.download, open=True),
)
