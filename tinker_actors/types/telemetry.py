"""Events that a client reports to the service about itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from tinker_actors.errors import InvalidInput
from tinker_actors.types.checked import Checked, Timestamp

__all__ = [
    "EventType",
    "GenericEvent",
    "SessionEndEvent",
    "SessionStartEvent",
    "Severity",
    "TelemetryBatch",
    "TelemetryEvent",
    "TelemetryResponse",
    "UnhandledExceptionEvent",
]

_MOST_EVENTS = 100
_DURATION = re.compile(r"(-?\d+ days?, )?\d+:\d{2}:\d{2}(\.\d{1,6})?\Z|P[0-9A-Z.]+\Z")


class Severity(StrEnum):
    """How serious an event is."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"

    @classmethod
    def parse(cls, text: str) -> Severity | None:
        """The severity named ``text``, in capitals or not; None for anything else."""
        return cls.__members__.get(text.strip().upper())


class EventType(StrEnum):
    """The kinds of events."""

    SESSION_START = "SESSION_START"
    SESSION_END = "SESSION_END"
    UNHANDLED_EXCEPTION = "UNHANDLED_EXCEPTION"
    GENERIC_EVENT = "GENERIC_EVENT"

    @classmethod
    def parse(cls, text: str) -> EventType | None:
        """The kind named ``text``, in capitals or not; None for anything else."""
        return cls.__members__.get(text.strip().upper())


class SessionStartEvent(Checked, frozen=True, kw_only=True, tag_field="event", tag="SESSION_START"):
    """A session has begun. ``event_session_index`` counts the session's events from 0."""

    event_id: str
    event_session_index: int
    timestamp: Timestamp
    severity: Severity = Severity.INFO


class SessionEndEvent(Checked, frozen=True, kw_only=True, tag_field="event", tag="SESSION_END"):
    """A session has ended after ``duration``: H:MM:SS[.ffffff], days in front if need be, or ISO 8601."""

    event_id: str
    event_session_index: int
    timestamp: Timestamp
    duration: str
    severity: Severity = Severity.INFO

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _DURATION.match(self.duration):
            raise InvalidInput(
                "SessionEndEvent.duration", f"{self.duration!r} is no duration", "Give str() of a timedelta"
            )


class UnhandledExceptionEvent(Checked, frozen=True, kw_only=True, tag_field="event", tag="UNHANDLED_EXCEPTION"):
    """An exception that nobody has handled."""

    event_id: str
    event_session_index: int
    timestamp: Timestamp
    error_type: str
    error_message: str
    traceback: str | None = None
    severity: Severity = Severity.ERROR


class GenericEvent(Checked, frozen=True, kw_only=True, tag_field="event", tag="GENERIC_EVENT"):
    """Anything else, by a name of which there are few; ``event_data`` is what JSON can carry."""

    event_id: str
    event_session_index: int
    timestamp: Timestamp
    event_name: str
    event_data: Mapping[str, Any] = {}
    severity: Severity = Severity.INFO


TelemetryEvent: TypeAlias = SessionStartEvent | SessionEndEvent | UnhandledExceptionEvent | GenericEvent


class TelemetryBatch(Checked, frozen=True, kw_only=True):
    """POST /telemetry: at most 100 events of one session; ``process_uuid`` is left out for servers before 0.26."""

    events: tuple[TelemetryEvent, ...]
    platform: str
    sdk_version: str
    session_id: str
    process_uuid: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.events) > _MOST_EVENTS:
            raise InvalidInput(
                "TelemetryBatch.events", f"are {len(self.events)}", f"Send at most {_MOST_EVENTS} at once"
            )


class TelemetryResponse(Checked, frozen=True, kw_only=True):
    """The service has taken a batch."""

    status: Literal["accepted"] = "accepted"
