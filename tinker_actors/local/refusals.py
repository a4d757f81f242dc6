"""Requests that the server does not take. Nothing was queued or changed."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Refusal", "gone", "invalid", "not_found", "out_of_order", "overloaded", "unauthorized", "unavailable"]


class Refusal(Exception):
    """An answer with an error status and {"detail": ...}."""

    def __init__(self, status: int, detail: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers)


def invalid(field: str, problem: str, cure: str) -> Refusal:
    """400: a value that can't be used, in the words of InvalidInput."""
    return Refusal(400, f"{field}: {problem}. {cure}")


def unauthorized(problem: str) -> Refusal:
    """401: the key is missing or wrong. Never shows it."""
    return Refusal(401, problem)


def not_found(what: str) -> Refusal:
    """404: this server has never heard of it."""
    return Refusal(404, what)


def gone(what: str) -> Refusal:
    """410: it existed and is over."""
    return Refusal(410, what)


def out_of_order(what: str) -> Refusal:
    """409: it can't be done now, since something else is due."""
    return Refusal(409, what)


def overloaded(what: str) -> Refusal:
    """429: come back in a second."""
    return Refusal(429, what, [("retry-after", "1")])


def unavailable(what: str) -> Refusal:
    """503: the server is in trouble that may pass."""
    return Refusal(503, what, [("retry-after", "5")])
