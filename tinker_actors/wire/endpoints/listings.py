"""What the caller has at the server: training runs, sessions, samplers, usage, the audit log."""

from __future__ import annotations

import datetime
from typing import Literal, TypeAlias, TypeVar

from tinker_actors.codec.json import encode_json
from tinker_actors.types import (
    AuditLogResponse,
    BillingUsageResponse,
    CheckpointStorageUsageResponse,
    GetSamplerResponse,
    GetSessionResponse,
    ListSessionsResponse,
    SessionSearchRequest,
    SessionSearchResponse,
    SetSessionProjectRequest,
    TraceExportResponse,
    TrainingRun,
    TrainingRunsResponse,
)
from tinker_actors.wire.api import Api
from tinker_actors.wire.headers import on_behalf_of
from tinker_actors.wire.urls import Query, segment

__all__ = [
    "AccessScope",
    "audit_log",
    "billing_usage",
    "checkpoint_storage_usage",
    "get_sampler",
    "get_session",
    "get_training_run",
    "list_sessions",
    "list_training_runs",
    "search_sessions",
    "set_session_project",
    "trace_export",
]

T = TypeVar("T")
AccessScope: TypeAlias = Literal["owned", "accessible"]


async def list_training_runs(
    api: Api,
    *,
    limit: int = 20,
    offset: int = 0,
    access_scope: AccessScope = "owned",
    project_id: str | None = None,
) -> TrainingRunsResponse:
    """GET /training_runs: ``limit`` of them from number ``offset`` on."""
    query = {"limit": limit, "offset": offset, "access_scope": access_scope, "project_id": project_id}
    return await _get(api, "/training_runs", TrainingRunsResponse, "list_training_runs", query)


async def get_training_run(api: Api, run_id: str, *, access_scope: AccessScope = "owned") -> TrainingRun:
    """GET /training_runs/{run}."""
    path = f"/training_runs/{segment(run_id)}"
    return await _get(api, path, TrainingRun, "get_training_run", {"access_scope": access_scope})


async def list_sessions(
    api: Api, *, limit: int = 20, offset: int = 0, access_scope: AccessScope = "owned"
) -> ListSessionsResponse:
    """GET /sessions: their ids."""
    query = {"limit": limit, "offset": offset, "access_scope": access_scope}
    return await _get(api, "/sessions", ListSessionsResponse, "list_sessions", query)


async def get_session(api: Api, session_id: str, *, access_scope: AccessScope = "owned") -> GetSessionResponse:
    """GET /sessions/{id}: its training runs and samplers."""
    path = f"/sessions/{segment(session_id)}"
    return await _get(api, path, GetSessionResponse, "get_session", {"access_scope": access_scope})


async def set_session_project(api: Api, session_id: str, project_id: str, *, key: str) -> None:
    """PUT /sessions/{id}/project."""
    await api.exchange(
        "PUT",
        f"/sessions/{segment(session_id)}/project",
        (encode_json(SetSessionProjectRequest(project_id=project_id)),),
        purpose="rest",
        key=key,
        headers=on_behalf_of("RestClient.set_session_project"),
    )


async def trace_export(api: Api, session_id: str) -> TraceExportResponse:
    """GET /sessions/{id}/trace_export: asks for it, and says whether it is there; to be asked again every 5 s."""
    path = f"/sessions/{segment(session_id)}/trace_export"
    return await _get(api, path, TraceExportResponse, "trace_export", None)


async def search_sessions(api: Api, request: SessionSearchRequest) -> SessionSearchResponse:
    """POST /sessions/search."""
    behalf = on_behalf_of("RestClient.search_sessions")
    return await api.call("/sessions/search", SessionSearchResponse, request, purpose="rest", headers=behalf)


async def get_sampler(api: Api, sampler_id: str) -> GetSamplerResponse:
    """GET /samplers/{id}: what a sampling session samples from."""
    return await _get(api, f"/samplers/{segment(sampler_id)}", GetSamplerResponse, "get_sampler", None)


async def audit_log(api: Api, *, event_type: str = "all", day: datetime.date | None = None) -> AuditLogResponse:
    """GET /audit, for administrators; ``event_type`` "all", "checkpoints", "projects", "teams" or "organizations"."""
    query = {"event_type": event_type, "day": day.isoformat() if day is not None else None}
    return await _get(api, "/audit", AuditLogResponse, "audit_log", query)


async def billing_usage(
    api: Api, *, starting_on: datetime.datetime, ending_before: datetime.datetime
) -> BillingUsageResponse:
    """GET /billing/usage/events, for administrators: whole hours, at most 14 days. A time without offset is UTC's."""
    query = {"starting_on": _instant(starting_on), "ending_before": _instant(ending_before)}
    return await _get(api, "/billing/usage/events", BillingUsageResponse, "billing_usage", query)


async def checkpoint_storage_usage(api: Api, *, project_id: str | None = None) -> CheckpointStorageUsageResponse:
    """GET /billing/usage/checkpoints/current, for administrators."""
    path, name = "/billing/usage/checkpoints/current", "checkpoint_storage_usage"
    return await _get(api, path, CheckpointStorageUsageResponse, name, {"project_id": project_id})


def _instant(time: datetime.datetime) -> str:
    in_utc = time.replace(tzinfo=datetime.UTC) if time.tzinfo is None else time.astimezone(datetime.UTC)
    return in_utc.isoformat().replace("+00:00", "Z")


async def _get(api: Api, path: str, result: type[T], name: str, query: Query | None) -> T:
    headers = on_behalf_of(f"RestClient.{name}")
    return await api.call(path, result, method="GET", purpose="rest", query=query, headers=headers)
