"""What failed at the server: operations for good, and requests that were repeated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, final

from tinker_actors.errors import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    OutageError,
    RequestFailedError,
)
from tinker_actors.telemetry.exceptions import field_of, find_user_error
from tinker_actors.types import Severity

__all__ = ["Repeats", "failure_name", "failure_severity", "told_of"]

_MOST_KINDS = 50
_OTHERS = ("others", "others", "")


def failure_name(error: BaseException) -> str:
    """The name that the official SDK has for an operation's failure of this kind (WIRE 5.12)."""
    match error:
        case RequestFailedError():
            kind = "application_error"
        case APIStatusError():
            kind = "api_status_error"
        case APITimeoutError() | OutageError():
            kind = "timeout"
        case APIConnectionError():
            kind = "connection_error"
        case APIResponseError():
            kind = "validation_error"
        case _:
            kind = "error"
    return f"APIFuture.result_async.{kind}"


def failure_severity(error: BaseException) -> Severity:
    """A warning for what is the user's own doing."""
    return Severity.ERROR if find_user_error(error) is None else Severity.WARNING


def told_of(error: BaseException) -> Mapping[str, Any]:
    """What an event says of ``error``."""
    data: dict[str, Any] = {"error_type": type(error).__name__, "message": error}
    for name, field in (("status", "status_code"), ("category", "category"), ("request_id", "request_id")):
        if (value := field_of(error, name)) is not None:
            data[field] = value
    return data


@final
class Repeats:
    """Counts the requests that failed and are repeated, by what was asked and how it failed.

    In an outage they are thousands of a kind. Beyond fifty kinds the rest is counted as one.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], int] = {}

    def add(self, error: APIError) -> None:
        """One more."""
        if isinstance(error, APIStatusError):
            key = ("http.request.status", error.request or "", f"HTTP {error.status}")
        else:
            key = ("http.request.exception", error.request or "", type(error).__name__)
        if key not in self._counts and len(self._counts) >= _MOST_KINDS:
            key = _OTHERS
        self._counts[key] = self._counts.get(key, 0) + 1

    def take(self) -> Iterator[tuple[str, Mapping[str, Any], Severity]]:
        """Name, data and severity of an event for each kind, and forget them: no answer at all is an error."""
        counts, self._counts = self._counts, {}
        for (name, request, error), times in counts.items():
            if (name, request, error) == _OTHERS:
                yield "http.request.exception", {"times": times, "others": True}, Severity.ERROR
                continue
            severity = Severity.ERROR if name.endswith("exception") else Severity.INFO
            yield name, {"request": request, "error": error, "times": times}, severity
