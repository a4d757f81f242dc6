"""What a REST client's actor can be asked of training runs, sessions and samplers."""

from __future__ import annotations

from typing import Generic, TypeVar, get_args

from tinker_actors.checks import integer
from tinker_actors.clients.rest.call import RestCall, RestChange, known_id, known_id_or_none, one_of
from tinker_actors.errors import InvalidInput
from tinker_actors.types import (
    GetSamplerResponse,
    GetSessionResponse,
    ListSessionsResponse,
    SessionSearchRequest,
    SessionSearchResponse,
    TraceExportResponse,
    TrainingRun,
    TrainingRunsResponse,
)
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints import listings
from tinker_actors.wire.endpoints.listings import AccessScope

__all__ = [
    "AssignSessionProject",
    "ExportSessionTrace",
    "GetSampler",
    "GetSession",
    "GetTrainingRun",
    "ListSessions",
    "ListTrainingRuns",
    "SearchSessions",
]

R = TypeVar("R")

_PART = "Give a whole number from 0"


class _Scoped(RestCall[R], Generic[R], frozen=True, kw_only=True):
    access_scope: AccessScope = "owned"

    def __post_init__(self) -> None:
        one_of("access_scope", self.access_scope, get_args(AccessScope))


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
        known_id_or_none("project_id", self.project_id)

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
        known_id("training_run_id", self.run_id)

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
        known_id("session_id", self.session_id)

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
        known_id("session_id", self.session_id)

    async def look(self, api: Api) -> TraceExportResponse:
        """Whether it is there by now."""
        return await listings.trace_export(api, self.session_id)


class AssignSessionProject(RestChange[None], frozen=True, kw_only=True):
    """Put a session into a project."""

    session_id: str
    project_id: str
    method = "assign_session_project"

    def __post_init__(self) -> None:
        known_id("session_id", self.session_id)
        known_id("project_id", self.project_id)

    async def ask(self, api: Api) -> None:
        await listings.set_session_project(api, self.session_id, self.project_id, key=self.key)


class GetSampler(RestCall[GetSamplerResponse], frozen=True):
    """What a sampling session samples from."""

    sampler_id: str
    method = "get_sampler"

    def __post_init__(self) -> None:
        known_id("sampler_id", self.sampler_id)

    async def ask(self, api: Api) -> GetSamplerResponse:
        return await listings.get_sampler(api, self.sampler_id)
