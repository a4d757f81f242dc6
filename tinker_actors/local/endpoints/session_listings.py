"""Sessions as their owner sees them afterwards: listed, searched, looked at, put into a project."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

import msgspec
import trio
from msgspec import structs

from tinker_actors.local.endpoints.incoming import Incoming
from tinker_actors.local.endpoints.query import Scope, ScopedPage, part
from tinker_actors.local.refusals import invalid, not_found
from tinker_actors.local.service import LocalService
from tinker_actors.local.storage import SessionRecord
from tinker_actors.types import (
    ActiveStatusQuery,
    CancelledStatusQuery,
    ClientFinishedStatusQuery,
    GetSessionResponse,
    ListSessionsResponse,
    SessionActive,
    SessionCancelled,
    SessionClientFinished,
    SessionSearchCursor,
    SessionSearchRequest,
    SessionSearchResponse,
    SessionStatus,
    SessionStatusQuery,
    SessionSummary,
    UserSearchOwner,
)

__all__ = ["NO_PROJECT", "Project", "SessionsPage", "get_session", "list_sessions", "search_sessions", "set_project"]

T = TypeVar("T")
NO_PROJECT = "default"
"""The project of what was put into none."""


class SessionsPage(ScopedPage, frozen=True, kw_only=True):
    """GET /sessions."""


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """PUT /sessions/{id}/project."""

    project_id: str | None = None


async def list_sessions(service: LocalService, call: Incoming[SessionsPage]) -> ListSessionsResponse:
    """A part of the ids of the caller's sessions, newest first."""
    await trio.lowlevel.checkpoint()
    found, _ = part(service.catalog.sessions(call.owner)[::-1], call.body)
    return ListSessionsResponse(sessions=tuple(record.session_id for record in found))


async def get_session(service: LocalService, call: Incoming[Scope]) -> GetSessionResponse:
    """The runs of a session and, of this process, its samplers."""
    await trio.lowlevel.checkpoint()
    record = _find(service, call)
    runs = [run.run_id for run in service.catalog.runs(record.owner) if run.session_id == record.session_id]
    return GetSessionResponse(
        training_run_ids=tuple(runs),
        sampler_ids=service.samplers.ids_of_session(record.session_id),
        user_metadata=record.user_metadata,
        display_name=record.display_name,
    )


async def set_project(service: LocalService, call: Incoming[Project]) -> None:
    """Put a session, and with it its runs, into a project. Any name is one."""
    project_id = call.body.project_id
    if not project_id:
        raise invalid("project_id", "is missing", "Give the project's id")
    record = _find(service, call)
    await service.change_session(record.session_id, lambda record: structs.replace(record, project_id=project_id))
    details = {"session_id": record.session_id, "project_id": project_id}
    service.activity.audit.add(call.owner, "projects", "session_project_set", details=details)


async def search_sessions(service: LocalService, call: Incoming[SessionSearchRequest]) -> SessionSearchResponse:
    """The caller's sessions that fulfil every condition, newest first, as many as ``limit``.

    ``session_id`` and ``display_name`` are one condition: either will do. A name fits that has each
    of the given words in it, in capitals or not (WIRE 2.7).
    """
    await trio.lowlevel.checkpoint()
    request = call.body
    found = [record for record in service.catalog.sessions(call.owner) if _matches(service, request, record)]
    found.sort(key=_place, reverse=True)
    if request.cursor is not None:
        before = (request.cursor.last_created_at, request.cursor.last_session_id)
        found = [record for record in found if _place(record) < before]
    page = found[: request.limit]
    return SessionSearchResponse(
        sessions=tuple(_summary(service, record) for record in page),
        next_cursor=SessionSearchCursor(last_created_at=page[-1].created_at, last_session_id=page[-1].session_id)
        if len(found) > len(page)
        else None,
    )


def _find(service: LocalService, call: Incoming[T]) -> SessionRecord:
    session_id = call.path["session_id"]
    record = service.catalog.session(call.owner, session_id)
    if record is None:
        raise not_found(f"session {session_id!r}: there is no such session")
    return record


def _place(record: SessionRecord) -> tuple[datetime, str]:
    return record.created_at, record.session_id


def _matches(service: LocalService, request: SessionSearchRequest, record: SessionRecord) -> bool:
    named = request.session_id is not None or request.display_name is not None
    if named and record.session_id != request.session_id and not _has_name(record, request.display_name):
        return False
    if request.project_ids is not None and (record.project_id or NO_PROJECT) not in request.project_ids:
        return False
    if any(record.user_metadata.get(key) != value for key, value in request.user_metadata.items()):
        return False
    if isinstance(request.owner, UserSearchOwner) and record.owner not in request.owner.owner_urns:
        return False
    status = service.status_of(record)
    return request.statuses is None or any(_is(status, wanted) for wanted in request.statuses)


def _has_name(record: SessionRecord, words: str | None) -> bool:
    if words is None or record.display_name is None:
        return False
    name = record.display_name.casefold()
    return all(word in name for word in words.casefold().split())


def _is(status: SessionStatus, wanted: SessionStatusQuery) -> bool:
    match wanted:
        case ActiveStatusQuery():
            return isinstance(status, SessionActive)
        case CancelledStatusQuery():
            return isinstance(status, SessionCancelled)
        case ClientFinishedStatusQuery():
            return isinstance(status, SessionClientFinished) and (
                wanted.reasons is None or status.reason.type in wanted.reasons
            )
        case _:  # nothing that fails here ends its session
            return False


def _summary(service: LocalService, record: SessionRecord) -> SessionSummary:
    runs = {run.run_id for run in service.catalog.runs(record.owner) if run.session_id == record.session_id}
    sizes = [
        checkpoint.size_bytes for checkpoint in service.catalog.checkpoints(record.owner) if checkpoint.run_id in runs
    ]
    return SessionSummary(
        session_id=record.session_id,
        created_at=record.created_at,
        owner=record.owner,
        project_id=record.project_id or NO_PROJECT,
        checkpoints_count=len(sizes),
        status=service.status_of(record),
        display_name=record.display_name,
        user_metadata=record.user_metadata,
        checkpoint_storage_bytes=sum(sizes),
    )
