"""Events in the making: numbered, named for good, dated."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeAlias, cast, final

import trio

from tinker_actors.errors import InvalidInput
from tinker_actors.telemetry.exceptions import field_of, find_user_error, traceback_of
from tinker_actors.telemetry.serializer import LONGEST_TRACEBACK, Serializer
from tinker_actors.types import (
    GenericEvent,
    SessionEndEvent,
    SessionStartEvent,
    Severity,
    TelemetryEvent,
    UnhandledExceptionEvent,
)

__all__ = ["Events", "Now", "parse_severity"]

Now: TypeAlias = Callable[[], datetime]


def parse_severity(given: Severity | str) -> Severity:
    """A severity, also from its name in capitals or not. Raises InvalidInput."""
    found = Severity.parse(given) if isinstance(given, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if found is None:
        raise InvalidInput("severity", f"{given!r:.60} is none", f"Use one of {', '.join(Severity)}")
    return found


@final
class Events:
    """Makes the events of one session (WIRE 5.12).

    An event's id follows from the session's id, ``salt`` and the event's number, so that it is the same whenever the
    event is sent, and another one in every other process.
    """

    def __init__(self, salt: int, serializer: Serializer, now: Now) -> None:
        self._salt = salt
        self._serializer = serializer
        self._now = now
        self._session_id = ""
        self._count = 0
        self._began = trio.current_time()

    def session_start(self, session_id: str) -> SessionStartEvent:
        """The session has been created, or another one in its place."""
        if self._session_id:
            self._count = 0
        self._session_id = session_id
        self._began = trio.current_time()
        return SessionStartEvent(**self._common())

    def session_end(self) -> SessionEndEvent:
        """The session is over."""
        duration = timedelta(seconds=trio.current_time() - self._began)
        return SessionEndEvent(**self._common(), duration=str(duration))

    def generic(self, name: str, data: Mapping[str, Any], severity: Severity = Severity.INFO) -> GenericEvent:
        """Anything, by a name."""
        fit: Any = self._serializer.data(data)
        return GenericEvent(
            **self._common(),
            event_name=self._serializer.text(name),
            event_data=cast("dict[str, Any]", fit) if isinstance(fit, dict) else {"data": fit},
            severity=severity,
        )

    def exception(
        self, error: BaseException, severity: Severity = Severity.ERROR, traceback: str | None = None
    ) -> TelemetryEvent:
        """An exception: ``user_error``, a warning, when it is the user's own doing; unhandled otherwise."""
        text = self._serializer.text
        found = find_user_error(error)
        if found is not None:
            data: dict[str, Any] = {"error_type": type(found.error).__name__, "message": text(found.error)}
            if found.status_code is not None:
                data["status_code"] = found.status_code
            for name in ("body", "detail"):  # what the server said, by whichever name
                if (said := field_of(found.error, name)) is not None:
                    data["body"] = said
                    break
            return self.generic("user_error", data, Severity.WARNING)
        return UnhandledExceptionEvent(
            **self._common(),
            error_type=type(error).__name__,
            error_message=text(error),
            traceback=text(
                traceback_of(error) if traceback is None else traceback, longest=LONGEST_TRACEBACK, tail=True
            ),
            severity=severity,
        )

    def _common(self) -> dict[str, Any]:
        index = self._count
        self._count += 1
        digest = hashlib.sha256(f"{self._salt}/{self._session_id}/{index}".encode()).digest()
        return {
            "event_id": str(uuid.UUID(bytes=digest[:16], version=4)),
            "event_session_index": index,
            "timestamp": self._now(),
        }
