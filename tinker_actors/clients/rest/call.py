"""Questions and changes as messages to a REST client's actor, and how the values in them are checked."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from supervision import Call
from tinker_actors.checks import text
from tinker_actors.errors import InvalidInput
from tinker_actors.wire.api import Api

__all__ = [
    "RestCall",
    "RestChange",
    "known_id",
    "known_id_or_none",
    "one_of",
]

R = TypeVar("R")


class RestCall(Call[R], Generic[R], frozen=True):
    """A question, which may be asked again."""

    method: ClassVar[str]
    """The method of RestClient that it stands for."""

    async def ask(self, api: Api) -> R:
        """One attempt."""
        raise NotImplementedError


class RestChange(RestCall[R], Generic[R], frozen=True, kw_only=True):
    """A change. ``key`` names it for all its tries; ``done_by`` is the status that tells of a repeated one that it
    had been done already.
    """

    key: str
    done_by: ClassVar[int | None] = None


def known_id(field: str, value: str) -> None:
    """Raises InvalidInput for what can't be an id in a path."""
    cure = "Give the id as the server gave it"
    if text(field, value, cure) in (".", ".."):
        raise InvalidInput(field, f"{value!r} can't be part of a path", cure)


def known_id_or_none(field: str, value: str | None) -> None:
    """``known_id``, or None."""
    if value is not None:
        known_id(field, value)


def one_of(field: str, value: str, known: tuple[str, ...]) -> None:
    """Raises InvalidInput for a value that is not among the ``known`` ones."""
    cure = f"Use one of {', '.join(known)}"
    if text(field, value, cure) not in known:
        raise InvalidInput(field, f"{value!r} is not known", cure)
