"""Sessions: created, kept alive, finished."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from tinker_actors.codec.json import encode_json
from tinker_actors.types import CreateSessionRequest, CreateSessionResponse, FinishSessionRequest, SessionIdRequest
from tinker_actors.wire.api import Api

__all__ = ["create_session", "finish_session", "session_heartbeat"]

_HEARTBEAT_TIMEOUT = 10.0  # the official SDK's


async def create_session(
    api: Api, request: CreateSessionRequest, *, key: str, attempt: int = 0
) -> CreateSessionResponse:
    """POST /create_session."""
    return await api.call(
        "/create_session", CreateSessionResponse, request, purpose="session", key=key, attempt=attempt
    )


async def session_heartbeat(api: Api, session_id: str) -> None:
    """POST /session_heartbeat. GoneError when the server has ended the session."""
    body = encode_json(SessionIdRequest(session_id=session_id))
    await api.exchange("POST", "/session_heartbeat", (body,), purpose="session", timeout=_HEARTBEAT_TIMEOUT)


async def finish_session(
    api: Api,
    session_id: str,
    reason: Literal["success", "errored", "interrupted"],
    detail: str | None,
    *,
    attempt: int = 0,
) -> None:
    """POST /sessions/{id}/finish. The first reason given counts."""
    body = encode_json(FinishSessionRequest(reason={"type": reason}, detail=detail))
    path = f"/sessions/{quote(session_id, safe=':')}/finish"
    await api.exchange("POST", path, (body,), purpose="session", attempt=attempt)
