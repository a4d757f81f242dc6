"""Sessions as servers list and search them, and the samplers within them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from tinker_actors.errors import InvalidInput
from tinker_actors.types.checked import Checked, Timestamp

__all__ = [
    "AccessibleSearchOwner",
    "ActiveStatusQuery",
    "CancelledStatusQuery",
    "ClientFinishedStatusQuery",
    "FailedRequestReason",
    "FailedSamplingSessionReason",
    "FailedStatusQuery",
    "FailedTrainingRunReason",
    "FinishReason",
    "FinishReasonType",
    "GetSamplerResponse",
    "GetSessionResponse",
    "ListSessionsResponse",
    "OwnSearchOwner",
    "SearchOwner",
    "SessionActive",
    "SessionCancelled",
    "SessionClientFinished",
    "SessionFailed",
    "SessionFailedReason",
    "SessionSearchCursor",
    "SessionSearchRequest",
    "SessionSearchResponse",
    "SessionStatus",
    "SessionStatusQuery",
    "SessionSummary",
    "SetSessionProjectRequest",
    "TraceExportResponse",
    "UserSearchOwner",
]

FinishReasonType: TypeAlias = Literal["success", "errored", "interrupted"]


class FinishReason(Checked, frozen=True, kw_only=True):
    """How a client ended its session."""

    type: FinishReasonType


class SessionActive(Checked, frozen=True, kw_only=True, tag="active"):
    """The session is in use."""


class SessionCancelled(Checked, frozen=True, kw_only=True, tag="cancelled"):
    """The session was cancelled from outside."""

    detail: str | None = None


class SessionClientFinished(Checked, frozen=True, kw_only=True, tag="client_finished"):
    """Its client has finished the session."""

    reason: FinishReason
    detail: str | None = None


class FailedRequestReason(Checked, frozen=True, kw_only=True, tag="request"):
    """A request failed."""

    request_id: str
    request_type: str


class FailedTrainingRunReason(Checked, frozen=True, kw_only=True, tag="training_run"):
    """A training run failed."""

    training_run_id: str


class FailedSamplingSessionReason(Checked, frozen=True, kw_only=True, tag="sampling_session"):
    """A sampling session failed."""

    sampling_session_id: str


SessionFailedReason: TypeAlias = FailedRequestReason | FailedTrainingRunReason | FailedSamplingSessionReason


class SessionFailed(Checked, frozen=True, kw_only=True, tag="failed"):
    """The session failed: by its user's fault, or the service's own."""

    category: Literal["user", "internal"]
    reason: SessionFailedReason
    message: str


SessionStatus: TypeAlias = SessionActive | SessionCancelled | SessionClientFinished | SessionFailed


class SessionSummary(Checked, frozen=True, kw_only=True):
    """A session that a search has found."""

    session_id: str
    created_at: Timestamp
    owner: str
    project_id: str
    checkpoints_count: int
    status: SessionStatus | None = None
    display_name: str | None = None
    user_metadata: Mapping[str, str] | None = None
    checkpoint_storage_bytes: int | None = None


class OwnSearchOwner(Checked, frozen=True, kw_only=True, tag="own"):
    """Search the caller's own sessions."""


class AccessibleSearchOwner(Checked, frozen=True, kw_only=True, tag="accessible"):
    """Search all sessions that the caller may see."""


class UserSearchOwner(Checked, frozen=True, kw_only=True, tag="user"):
    """Search the sessions of 1 to 10 users."""

    owner_urns: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= len(self.owner_urns) <= 10:
            raise InvalidInput("UserSearchOwner.owner_urns", f"are {len(self.owner_urns)}", "Give 1 to 10")


SearchOwner: TypeAlias = OwnSearchOwner | AccessibleSearchOwner | UserSearchOwner


class ActiveStatusQuery(Checked, frozen=True, kw_only=True, tag="active"):
    """Sessions in use."""


class CancelledStatusQuery(Checked, frozen=True, kw_only=True, tag="cancelled"):
    """Sessions that were cancelled."""


class FailedStatusQuery(Checked, frozen=True, kw_only=True, tag="failed"):
    """Sessions that failed."""


class ClientFinishedStatusQuery(Checked, frozen=True, kw_only=True, tag="client_finished"):
    """Sessions that their clients have finished, for any of ``reasons`` or any at all."""

    reasons: tuple[FinishReasonType, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reasons == ():
            raise InvalidInput("ClientFinishedStatusQuery.reasons", "is empty", "Give at least one, or None for any")


SessionStatusQuery: TypeAlias = (
    ActiveStatusQuery | CancelledStatusQuery | FailedStatusQuery | ClientFinishedStatusQuery
)


class SessionSearchCursor(Checked, frozen=True, kw_only=True):
    """The last session of the part of a search before."""

    last_created_at: Timestamp
    last_session_id: str


class SessionSearchRequest(Checked, frozen=True, kw_only=True):
    """POST /sessions/search; every condition has to hold. ``limit`` is 1 to 200."""

    session_id: str | None = None
    project_ids: tuple[str, ...] | None = None
    user_metadata: Mapping[str, str] = {}
    display_name: str | None = None
    owner: SearchOwner = msgspec.field(default_factory=OwnSearchOwner)
    statuses: tuple[SessionStatusQuery, ...] | None = None
    limit: int = 50
    cursor: SessionSearchCursor | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.limit <= 200:
            raise InvalidInput("SessionSearchRequest.limit", f"{self.limit} is out of range", "Give 1 to 200")
        if self.display_name == "" or self.statuses == ():
            name = "display_name" if self.display_name == "" else "statuses"
            raise InvalidInput(f"SessionSearchRequest.{name}", "is empty", "Give at least one, or None for any")


class SessionSearchResponse(Checked, frozen=True, kw_only=True):
    """A part of what a search has found; ``next_cursor`` None after the last one."""

    sessions: tuple[SessionSummary, ...]
    next_cursor: SessionSearchCursor | None = None


class GetSessionResponse(Checked, frozen=True, kw_only=True):
    """What a session holds."""

    training_run_ids: tuple[str, ...]
    sampler_ids: tuple[str, ...]
    user_metadata: Mapping[str, str] | None = None
    display_name: str | None = None


class ListSessionsResponse(Checked, frozen=True, kw_only=True):
    """The ids of sessions."""

    sessions: tuple[str, ...]


class SetSessionProjectRequest(Checked, frozen=True, kw_only=True):
    """PUT /sessions/{id}/project."""

    project_id: str


class GetSamplerResponse(Checked, frozen=True, kw_only=True):
    """What a sampling session samples from: a base model, with the weights of ``model_path`` if there is one."""

    sampler_id: str
    base_model: str
    model_path: str | None = None


class TraceExportResponse(Checked, frozen=True, kw_only=True):
    """The trace of a session: ``url`` once it is ready, ``error`` where it failed."""

    status: Literal["pending", "ready", "failed"]
    url: str | None = None
    error: str | None = None
