"""What a reply with an error status says: the server's words, its name for the request, when to try again."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

import msgspec

__all__ = [
    "Deprecation",
    "category",
    "deprecation",
    "expected_seq_id",
    "reply_detail",
    "request_id_of",
    "retry_after",
    "should_retry",
]

_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-tinker-request-id")
_LONGEST_WAIT = 3600.0  # seconds: a longer one is a mistake, and would be a wait without an end
_CATEGORIES = ("user", "server", "unknown")
_LEVELS = 8  # of an error body's nesting; what is deeper is quoted
# such as "Sequence conflict: expected 5, got 3"
_EXPECTED = re.compile(r"expected\b[^0-9]{0,40}?(\d{1,18})\b", re.IGNORECASE)


class Deprecation(msgspec.Struct, frozen=True):
    """A server's notice that something will go; ``level`` is that of logging."""

    text: str
    level: int


def reply_detail(status: int, body: bytes) -> str:
    """The server's own words in ``body``; the status's usual name when there are none.

    FastAPI's ``{"detail": ...}`` is understood in its three forms, and so are ``error`` and ``message``; any other
    body is quoted.
    """
    content = _parsed(body)
    text = _words(content, _LEVELS) if content is not None else body.decode("utf-8", "replace")
    text = " ".join(text.split())
    if not text:
        text = next((known.phrase for known in HTTPStatus if known == status), "no reason given")
    return text


def expected_seq_id(status: int, body: bytes, detail: str) -> int | None:
    """The seq_id that the server waits for, where a 409 names it, as a key or within its words."""
    if status != 409:
        return None
    content = _entries(_parsed(body))
    for level in (content, _entries(content.get("detail"))):
        for value in (level.get("expected_seq_id"), level.get("expected")):
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    found = _EXPECTED.search(detail)
    return int(found[1]) if found else None


def category(body: bytes) -> str | None:
    """Whose fault the server says it is: "user", "server" or "unknown"; None where it says nothing of the kind."""
    content = _entries(_parsed(body))
    for level in (content, _entries(content.get("detail")), _entries(content.get("error"))):
        said = level.get("category")
        if isinstance(said, str) and said.strip().lower() in _CATEGORIES:
            return said.strip().lower()
    return None


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """The server's own name for the request."""
    return next((headers[name] for name in _REQUEST_ID_HEADERS if headers.get(name)), None)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that the server asks to wait, an hour at most; None when it does not, or not understandably.

    ``retry-after-ms`` counts before ``retry-after``. A date is compared with the reply's own Date, so that neither
    clock has to be right.
    """
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return min(milliseconds / 1000, _LONGEST_WAIT)
    text = headers.get("retry-after")
    seconds = _seconds(text)
    if seconds is not None or text is None:
        return None if seconds is None else min(seconds, _LONGEST_WAIT)
    from email.utils import parsedate_to_datetime

    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))
    except (
        ValueError,
        TypeError,
        OverflowError,
    ):  # no date, no zone, beyond the calendar
        return None
    return min(max(0.0, wait.total_seconds()), _LONGEST_WAIT)


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """Whether the server says that asking again makes sense; None when it does not say."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def deprecation(headers: Mapping[str, str]) -> Deprecation | None:
    """The notice that comes with a reply, if one does."""
    text = " ".join(headers.get("x-deprecation-note", "").split())
    if not text:
        return None
    urgent = headers.get("x-deprecation-level", "").strip().lower() == "error"
    return Deprecation(text, logging.ERROR if urgent else logging.WARNING)


def _seconds(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _parsed(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _entries(content: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", content) if isinstance(content, dict) else {}


def _words(content: Any, levels: int) -> str:
    if isinstance(content, str):
        return content
    if levels and isinstance(content, dict):
        entries = cast("dict[str, Any]", content)
        for key in ("detail", "error", "message"):
            if entries.get(key):
                return _words(entries[key], levels - 1)
        # one of FastAPI's list of what is wrong with a body
        if "msg" in entries:
            place, message = entries.get("loc"), _words(entries["msg"], levels - 1)
            if isinstance(place, list) and place:
                return f"{'.'.join(_words(step, 0) for step in cast('list[Any]', place))}: {message}"
            return message
    if levels and isinstance(content, list) and content:
        return "; ".join(_words(item, levels - 1) for item in cast("list[Any]", content))
    return msgspec.json.encode(content).decode("utf-8", "replace")
