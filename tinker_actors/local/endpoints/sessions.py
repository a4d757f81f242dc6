"""Sessions: created, kept alive, finished."""

from __future__ import annotations

from functools import partial
from typing import get_args

import msgspec
import trio

from tinker_actors.local.endpoints.incoming import Incoming
from tinker_actors.local.refusals import invalid, unavailable
from tinker_actors.local.service import LocalService
from tinker_actors.local.session import Session
from tinker_actors.local.storage import SessionRecord
from tinker_actors.types import (
    CreateSessionRequest,
    CreateSessionResponse,
    FinishReason,
    FinishReasonType,
    FinishSessionRequest,
    SessionClientFinished,
    SessionIdRequest,
)

__all__ = ["create_session", "finish_session", "session_heartbeat"]


class HeartbeatAnswer(msgspec.Struct, frozen=True, tag_field="type", tag="session_heartbeat"):
    """POST /session_heartbeat."""


class Finished(msgspec.Struct, frozen=True):
    """POST /sessions/{id}/finish: clients do not read it."""


async def create_session(service: LocalService, call: Incoming[CreateSessionRequest]) -> CreateSessionResponse:
    """A new session. 403 when its owner has too many."""
    with service.limits.session(call.owner):
        record = SessionRecord(
            session_id=_new_id(service),
            owner=call.owner,
            created_at=service.now(),
            tags=call.body.tags,
            user_metadata=call.body.user_metadata,
            project_id=call.body.project_id,
            display_name=call.body.display_name,
        )
        try:
            await service.offload.run(partial(service.catalog.add_session, record))
        except OSError as error:
            raise unavailable(f"the session could not be kept: {error}") from error
        service.sessions.add(Session(record))
    return CreateSessionResponse(session_id=record.session_id)


async def session_heartbeat(service: LocalService, call: Incoming[SessionIdRequest]) -> HeartbeatAnswer:
    """A sign of life. 410 when the session is over, 404 when it never was."""
    await trio.lowlevel.checkpoint()
    service.sessions.get(call.owner, call.body.session_id)
    return HeartbeatAnswer()


async def finish_session(service: LocalService, call: Incoming[FinishSessionRequest]) -> Finished:
    """End a session: what it had accepted is done, and nothing new is taken. The first reason counts."""
    await trio.lowlevel.checkpoint()
    session = service.sessions.find(call.owner, call.path["session_id"])
    reason = FinishReason(type=_reason(call.body.reason.get("type", "success")))
    status = SessionClientFinished(reason=reason, detail=call.body.detail)
    await service.end_session(session, f"was finished by its client ({reason.type})", status, abandon=False)
    return Finished()


def _reason(given: str) -> FinishReasonType:
    for known in get_args(FinishReasonType):
        if given == known:
            return known
    raise invalid("reason.type", f"{given[:40]!r} is not known", "Use success, errored or interrupted")


def _new_id(service: LocalService) -> str:
    # a seeded generator may give an id that this directory has seen
    while True:
        session_id = f"sess-{service.random.getrandbits(64):016x}"
        if not service.catalog.knows_session(session_id):
            return session_id
