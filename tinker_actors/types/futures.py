"""The futures protocol: a call answers with a promise, polling gives its result."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

import msgspec

__all__ = ["FailedResult", "Id", "MetadataOnly", "Promise", "QueueState", "RequestErrorCategory", "TryAgain"]


class QueueState(StrEnum):
    """What the server says about the queue that a request waits in."""

    ACTIVE = "active"
    PAUSED_RATE_LIMIT = "paused_rate_limit"
    PAUSED_CAPACITY = "paused_capacity"
    UNKNOWN = "unknown"

    @classmethod
    def parse(cls, text: str | None) -> QueueState:
        """The state named ``text``; anything unknown is UNKNOWN, since servers invent states."""
        try:
            return cls(text.strip().lower()) if text is not None else cls.UNKNOWN
        except ValueError:
            return cls.UNKNOWN


class RequestErrorCategory(StrEnum):
    """Whose fault a failed request was."""

    UNKNOWN = "unknown"
    SERVER = "server"
    USER = "user"

    @classmethod
    def parse(cls, text: str | None) -> RequestErrorCategory:
        """The category named ``text``; anything unknown is UNKNOWN."""
        try:
            return cls(text.strip().lower()) if text is not None else cls.UNKNOWN
        except ValueError:
            return cls.UNKNOWN

    @property
    def retryable(self) -> bool:
        """Whether asking again could help: not where the request itself is wrong."""
        return self is not RequestErrorCategory.USER


Id: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
"""A name that the server gives; it never is empty."""


class Promise(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The server has accepted a request and will have its result under ``request_id``."""

    request_id: Id
    model_id: str | None = None
    sample_sequence_ids: tuple[str, ...] | None = None


class TryAgain(msgspec.Struct, frozen=True, kw_only=True):
    """The result is not there yet."""

    request_id: str
    queue_state: QueueState = QueueState.UNKNOWN
    queue_state_reason: str | None = None
    retry_after_ms: int | None = None


class FailedResult(msgspec.Struct, frozen=True, kw_only=True):
    """The request was run and failed."""

    error: str
    category: RequestErrorCategory = RequestErrorCategory.UNKNOWN


class MetadataOnly(msgspec.Struct, frozen=True, kw_only=True):
    """The result is there, but was withheld because of its size: ``response_payload_size`` bytes."""

    response_payload_size: int
