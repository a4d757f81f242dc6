"""What a REST client's actor can be asked. Each message checks its own values, and knows its endpoint."""

from __future__ import annotations

import datetime
import math
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar, get_args

from supervision import Call
from tinker_actors.checks import integer, number, text
from tinker_actors.errors import InvalidInput
from tinker_actors.types import (
    ApiKeyInfo,
    AuditLogResponse,
    BillingUsageResponse,
    CheckpointArchiveUrlResponse,
    CheckpointsListResponse,
    CheckpointStorageUsageResponse,
    CopyWeightsRequest,
    ExternalWeightsUrlsResponse,
    GetSamplerResponse,
    GetServerCapabilitiesResponse,
    GetSessionResponse,
    ListSessionsResponse,
    SessionSearchRequest,
    SessionSearchResponse,
    TinkerPath,
    TraceExportResponse,
    TrainingRun,
    TrainingRunsResponse,
    WeightsInfoResponse,
)
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints import checkpoints, listings, service, weights
from tinker_actors.wire.endpoints.listings import AccessScope

__all__ = [
    "AssignSessionProject",
    "AuditEvents",
    "CopyWeights",
    "DeleteCheckpoint",
    "ExportSessionTrace",
    "GetAuditLog",
    "GetBillingUsage",
    "GetCheckpointArchiveUrl",
    "GetCheckpointStorageUsage",
    "GetExternalWeightsUrls",
    "GetRestCapabilities",
    "GetSampler",
    "GetSession",
    "GetTrainingRun",
    "GetWeightsInfo",
    "ListCheckpoints",
    "ListSessions",
    "ListTrainingRuns",
    "ListUserCheckpoints",
    "PublishCheckpoint",
    "RestCall",
    "RestChange",
    "SearchSessions",
    "SetCheckpointTtl",
    "UnpublishCheckpoint",
    "Whoami",
    "ttl",
]

R = TypeVar("R")

AuditEvents: TypeAlias = Literal["all", "checkpoints", "projects", "teams", "organizations"]

_LONGEST_TTL = 100 * 365 * 24 * 3600  # seconds: what servers can add to a date
_PART = "Give a whole number from 0"


class RestCall(Call[R], Generic[R], frozen=True):
    """A question, which may be asked again."""

    method: ClassVar[str]
    """The method of RestClient that it stands for."""

    async def ask(self, api: Api) -> R:
        """One attempt."""
        raise NotImplementedError


class RestChange(RestCall[R], Generic[R], frozen=True, kw_only=True):
    """A change. ``key`` names it for all its tries; ``done_by`` is the status that tells of a repeated one that it
    had been done already.
    """

    key: str
    done_by: ClassVar[int | None] = None


class GetRestCapabilities(RestCall[GetServerCapabilitiesResponse], frozen=True):
    """What the server offers."""

    method = "get_server_capabilities"

    async def ask(self, api: Api) -> GetServerCapabilitiesResponse:
        return await service.get_server_capabilities(api)


class Whoami(RestCall[ApiKeyInfo], frozen=True):
    """Whose key this is."""

    method = "whoami"

    async def ask(self, api: Api) -> ApiKeyInfo:
        return await service.api_key_info(api)


class _Scoped(RestCall[R], Generic[R], frozen=True, kw_only=True):
    access_scope: AccessScope = "owned"

    def __post_init__(self) -> None:
        _one_of("access_scope", self.access_scope, get_args(AccessScope))


class _Part(_Scoped[R], Generic[R], frozen=True, kw_only=True):
    limit: int
    offset: int

    def __post_init__(self) -> None:
        super().__post_init__()
        integer("limit", self.limit, _PART, low=0)
        integer("offset", self.offset, _PART, low=0)


class ListTrainingRuns(_Part[TrainingRunsResponse], frozen=True, kw_only=True):
    """A part of the training runs."""

    project_id: str | None = None
    method = "list_training_runs"

    def __post_init__(self) -> None:
        super().__post_init__()
        _id_or_none("project_id", self.project_id)

    async def ask(self, api: Api) -> TrainingRunsResponse:
        return await listings.list_training_runs(
            api, limit=self.limit, offset=self.offset, access_scope=self.access_scope, project_id=self.project_id
        )


class GetTrainingRun(_Scoped[TrainingRun], frozen=True, kw_only=True):
    """One training run."""

    run_id: str
    method = "get_training_run"

    def __post_init__(self) -> None:
        super().__post_init__()
        _id("training_run_id", self.run_id)

    async def ask(self, api: Api) -> TrainingRun:
        return await listings.get_training_run(api, self.run_id, access_scope=self.access_scope)


class ListSessions(_Part[ListSessionsResponse], frozen=True, kw_only=True):
    """A part of the ids of sessions."""

    method = "list_sessions"

    async def ask(self, api: Api) -> ListSessionsResponse:
        return await listings.list_sessions(api, limit=self.limit, offset=self.offset, access_scope=self.access_scope)


class GetSession(_Scoped[GetSessionResponse], frozen=True, kw_only=True):
    """What a session holds."""

    session_id: str
    method = "get_session"

    def __post_init__(self) -> None:
        super().__post_init__()
        _id("session_id", self.session_id)

    async def ask(self, api: Api) -> GetSessionResponse:
        return await listings.get_session(api, self.session_id, access_scope=self.access_scope)


class SearchSessions(RestCall[SessionSearchResponse], frozen=True):
    """A part of what a search finds."""

    request: SessionSearchRequest
    method = "search_sessions"

    def __post_init__(self) -> None:
        if not isinstance(self.request, SessionSearchRequest):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput("request", f"is of type {type(self.request).__name__}", "Give a SessionSearchRequest")

    async def ask(self, api: Api) -> SessionSearchResponse:
        return await listings.search_sessions(api, self.request)


class ExportSessionTrace(RestCall[str], frozen=True):
    """Where a session's trace is, once the server has made it."""

    session_id: str
    method = "export_session_trace"

    def __post_init__(self) -> None:
        _id("session_id", self.session_id)

    async def look(self, api: Api) -> TraceExportResponse:
        """Whether it is there by now."""
        return await listings.trace_export(api, self.session_id)


class AssignSessionProject(RestChange[None], frozen=True, kw_only=True):
    """Put a session into a project."""

    session_id: str
    project_id: str
    method = "assign_session_project"

    def __post_init__(self) -> None:
        _id("session_id", self.session_id)
        _id("project_id", self.project_id)

    async def ask(self, api: Api) -> None:
        await listings.set_session_project(api, self.session_id, self.project_id, key=self.key)


class GetSampler(RestCall[GetSamplerResponse], frozen=True):
    """What a sampling session samples from."""

    sampler_id: str
    method = "get_sampler"

    def __post_init__(self) -> None:
        _id("sampler_id", self.sampler_id)

    async def ask(self, api: Api) -> GetSamplerResponse:
        return await listings.get_sampler(api, self.sampler_id)


class GetWeightsInfo(RestCall[WeightsInfoResponse], frozen=True):
    """How the model behind a checkpoint was made."""

    path: str
    method = "get_weights_info_by_tinker_path"

    async def ask(self, api: Api) -> WeightsInfoResponse:
        return await weights.weights_info(api, self.path)


class ListCheckpoints(RestCall[CheckpointsListResponse], frozen=True):
    """The checkpoints of a run."""

    run_id: str
    method = "list_checkpoints"

    def __post_init__(self) -> None:
        _id("training_run_id", self.run_id)

    async def ask(self, api: Api) -> CheckpointsListResponse:
        return await checkpoints.list_checkpoints(api, self.run_id)


class ListUserCheckpoints(RestCall[CheckpointsListResponse], frozen=True, kw_only=True):
    """A part of the caller's checkpoints."""

    limit: int
    offset: int
    method = "list_user_checkpoints"

    def __post_init__(self) -> None:
        integer("limit", self.limit, _PART, low=0)
        integer("offset", self.offset, _PART, low=0)

    async def ask(self, api: Api) -> CheckpointsListResponse:
        return await checkpoints.list_user_checkpoints(api, limit=self.limit, offset=self.offset)


class GetCheckpointArchiveUrl(RestCall[CheckpointArchiveUrlResponse], frozen=True, kw_only=True):
    """Where a checkpoint's archive is. A server that is making it (503) is asked again."""

    path: TinkerPath
    max_tries: int
    retry_delay: float
    method = "get_checkpoint_archive_url"

    def __post_init__(self) -> None:
        integer("max_tries", self.max_tries, "Ask at least once", low=1)
        cure = "Give a finite number of seconds from 0"
        if not 0 <= number("retry_delay", self.retry_delay, cure) < math.inf:
            raise InvalidInput("retry_delay", f"{self.retry_delay} is no time to wait", cure)

    async def ask(self, api: Api) -> CheckpointArchiveUrlResponse:
        return await checkpoints.checkpoint_archive_url(api, self.path.run, self.path.checkpoint_id)


class GetExternalWeightsUrls(RestCall[ExternalWeightsUrlsResponse], frozen=True):
    """Where the files of external weights are."""

    path: TinkerPath
    method = "get_external_weights_urls"

    async def ask(self, api: Api) -> ExternalWeightsUrlsResponse:
        return await checkpoints.external_weights_urls(api, self.path.run, self.path.checkpoint_id)


class DeleteCheckpoint(RestChange[None], frozen=True, kw_only=True):
    """Delete a checkpoint."""

    path: TinkerPath
    method = "delete_checkpoint"
    done_by = 404

    async def ask(self, api: Api) -> None:
        await checkpoints.delete_checkpoint(api, self.path.run, self.path.checkpoint_id, key=self.key)


class PublishCheckpoint(RestChange[None], frozen=True, kw_only=True):
    """Let everybody read a checkpoint."""

    path: TinkerPath
    method = "publish_checkpoint"
    done_by = 409

    async def ask(self, api: Api) -> None:
        await checkpoints.publish_checkpoint(api, self.path.run, self.path.checkpoint_id, key=self.key)


class UnpublishCheckpoint(RestChange[None], frozen=True, kw_only=True):
    """Let nobody but its owner read a checkpoint."""

    path: TinkerPath
    method = "unpublish_checkpoint"
    done_by = 409

    async def ask(self, api: Api) -> None:
        await checkpoints.unpublish_checkpoint(api, self.path.run, self.path.checkpoint_id, key=self.key)


class SetCheckpointTtl(RestChange[None], frozen=True, kw_only=True):
    """Keep a checkpoint for a time, or for good."""

    path: TinkerPath
    ttl_seconds: int | None
    method = "set_checkpoint_ttl_from_tinker_path"

    def __post_init__(self) -> None:
        ttl(self.ttl_seconds)

    async def ask(self, api: Api) -> None:
        path = self.path
        await checkpoints.set_checkpoint_ttl(api, path.run, path.checkpoint_id, self.ttl_seconds, key=self.key)


class CopyWeights(RestChange[str], frozen=True, kw_only=True):
    """Copy a checkpoint into a run of its own."""

    request: CopyWeightsRequest
    method = "copy_weights"

    async def ask(self, api: Api) -> str:
        return await weights.copy_weights(api, self.request, key=self.key)


class GetAuditLog(RestCall[AuditLogResponse], frozen=True, kw_only=True):
    """The audit log of a day."""

    event_type: AuditEvents
    day: datetime.date | None
    method = "get_audit_log"

    def __post_init__(self) -> None:
        _one_of("event_type", self.event_type, get_args(AuditEvents))
        given: Any = self.day
        if given is not None and (not isinstance(given, datetime.date) or isinstance(given, datetime.datetime)):
            raise InvalidInput("day", f"is of type {type(given).__name__}", "Give a datetime.date, or None for today")

    async def ask(self, api: Api) -> AuditLogResponse:
        return await listings.audit_log(api, event_type=self.event_type, day=self.day)


class GetBillingUsage(RestCall[BillingUsageResponse], frozen=True, kw_only=True):
    """Usage of whole hours."""

    starting_on: datetime.datetime
    ending_before: datetime.datetime
    method = "get_billing_usage"

    async def ask(self, api: Api) -> BillingUsageResponse:
        return await listings.billing_usage(api, starting_on=self.starting_on, ending_before=self.ending_before)


class GetCheckpointStorageUsage(RestCall[CheckpointStorageUsageResponse], frozen=True):
    """What checkpoints take."""

    project_id: str | None
    method = "get_current_checkpoint_storage_usage"

    def __post_init__(self) -> None:
        _id_or_none("project_id", self.project_id)

    async def ask(self, api: Api) -> CheckpointStorageUsageResponse:
        return await listings.checkpoint_storage_usage(api, project_id=self.project_id)


def _id(field: str, value: str) -> None:
    cure = "Give the id as the server gave it"
    if text(field, value, cure) in (".", ".."):
        raise InvalidInput(field, f"{value!r} can't be part of a path", cure)


def _id_or_none(field: str, value: str | None) -> None:
    if value is not None:
        _id(field, value)


def _one_of(field: str, value: str, known: tuple[str, ...]) -> None:
    cure = f"Use one of {', '.join(known)}"
    if text(field, value, cure) not in known:
        raise InvalidInput(field, f"{value!r} is not known", cure)


def ttl(seconds: int | None) -> int | None:
    """``seconds`` if a checkpoint can be kept for so long, else InvalidInput."""
    if seconds is None:
        return None
    cure = "Give whole seconds, or None to keep it for good"
    return integer("ttl_seconds", seconds, cure, low=1, high=_LONGEST_TTL)
