"""Exceptions: whose fault they are, and what is said of them."""

from __future__ import annotations

import textwrap
import traceback
from collections.abc import Iterator
from typing import Any, cast

import msgspec

from tinker_actors.errors import InvalidInput

__all__ = ["UserError", "field_of", "find_user_error", "traceback_of"]

_MOST_VISITED = 1_000
_DEEPEST_STACK = 60
_MOST_CAUSES = 10
_MOST_MEMBERS = 10
_DEEPEST_GROUPS = 3
_STATUS_FIELDS = ("status", "status_code", "plug_status")
_CAUSE_FIELDS = ("cause", "reason", "__cause__", "__context__")


class UserError(msgspec.Struct, frozen=True):
    """The exception of a chain that is the user's own doing, and the HTTP status that says so, if one does."""

    error: BaseException
    status_code: int | None


def find_user_error(error: BaseException) -> UserError | None:
    """The first exception of ``error``'s chain of causes, depth first, that is the user's fault; None without one.

    That is one with an HTTP status from 400 to 499 but 408 and 429, one of the category "user", and InvalidInput. A
    chain goes by the fields ``cause`` and ``reason``, by Python's own links (a context that ``from None`` has hidden
    is none) and by the members of groups. Never raises; a chain that leads back to itself ends.
    """
    for link in _chain(error):
        status = _status(link)
        if status is not None or field_of(link, "category") == "user" or isinstance(link, InvalidInput):
            return UserError(link, status)
    return None


def traceback_of(error: BaseException) -> str:
    """The traceback much as Python prints it, causes first: of each stack the innermost 60 frames, of each exception
    the next nine causes, and of a group the first ten members.

    Python's own way follows every cause there is, which may take as long as it likes. Never raises.
    """
    try:
        return _shown(error, 0)
    except Exception as failure:  # noqa: BLE001  # an exception may be of any make
        return f"{type(error).__name__}: its traceback can't be printed ({type(failure).__name__})"


def _shown(error: BaseException, depth: int) -> str:
    parts: list[str] = []
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen and len(parts) < _MOST_CAUSES:
        seen.add(id(link))
        parts.append(_shown_alone(link, depth))
        hidden = link.__suppress_context__
        link = link.__cause__ if link.__cause__ is not None else None if hidden else link.__context__
    return "\n\nThis led to:\n\n".join(reversed(parts))


def _shown_alone(error: BaseException, depth: int) -> str:
    stack = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__, limit=-_DEEPEST_STACK)))
    try:
        message = str(error)
    except Exception as failure:  # noqa: BLE001  # as above
        message = f"<it can't be printed: {type(failure).__name__}>"
    lines = [f"Traceback, innermost last:\n{stack}{type(error).__qualname__}: {message}"]
    if isinstance(error, BaseExceptionGroup) and depth < _DEEPEST_GROUPS:
        members = cast("BaseExceptionGroup[BaseException]", error).exceptions[:_MOST_MEMBERS]
        for number, member in enumerate(members, 1):
            lines.append(textwrap.indent(f"member {number}:\n{_shown(member, depth + 1)}", "  "))
    return "\n".join(lines)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting and len(seen) < _MOST_VISITED:
        link = waiting.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        waiting.extend(reversed(list(_causes(link))))


def _causes(link: BaseException) -> Iterator[BaseException]:
    for name in _CAUSE_FIELDS:
        if name == "__context__" and link.__suppress_context__:
            continue
        cause = field_of(link, name)
        if isinstance(cause, BaseException):
            yield cause
    if isinstance(link, BaseExceptionGroup):
        yield from cast("BaseExceptionGroup[BaseException]", link).exceptions


def _status(link: BaseException) -> int | None:
    for name in _STATUS_FIELDS:
        status = field_of(link, name)
        if isinstance(status, int) and 400 <= status < 500 and status not in (408, 429):
            return int(status)
    return None


def field_of(link: BaseException, name: str) -> Any:
    """The attribute ``name``; None where there is none, or where it can't be read."""
    try:
        return getattr(link, name, None)
    except Exception:  # noqa: BLE001  # a property of somebody else's
        return None
