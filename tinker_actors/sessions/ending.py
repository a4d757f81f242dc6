"""SessionEnd: what the server is told of why a session ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias, cast, get_args

import msgspec

from tinker_actors.errors import InvalidInput

__all__ = ["SessionEnd", "SessionStatus", "end_for"]

SessionStatus: TypeAlias = Literal["success", "errored", "interrupted"]

_LONGEST_DETAIL = 4096  # characters; the text is for people who look at a list of sessions


class SessionEnd(msgspec.Struct, frozen=True):
    """How a session ended (WIRE 2.1), and what people may want to know of it. Raises InvalidInput."""

    status: SessionStatus = "success"
    detail: str | None = None

    def __post_init__(self) -> None:
        if self.status not in get_args(SessionStatus):
            raise InvalidInput("status", f"{self.status!r} is none", 'Use "success", "errored" or "interrupted"')
        if self.detail is not None and not isinstance(self.detail, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput("detail", f"is of type {type(self.detail).__name__}", "Give a string, or None")
        if self.detail is not None and len(self.detail) > _LONGEST_DETAIL:
            problem = f"has {len(self.detail)} characters"
            raise InvalidInput("detail", problem, f"Give at most {_LONGEST_DETAIL}")


def end_for(error: BaseException | None) -> SessionEnd:
    """The end of a session whose block was left by ``error``; None: at its end.

    Errors are "errored", what is no ``Exception`` (a cancellation, Ctrl-C, an exit) is "interrupted", as in the
    official SDK. The detail names the type alone: an error's text may hold what is nobody's business.
    """
    if error is None:
        return SessionEnd()
    first = next((leaf for leaf in _leaves(error) if isinstance(leaf, Exception)), None)
    if first is None:
        return SessionEnd("interrupted", type(next(_leaves(error), error)).__qualname__)
    return SessionEnd("errored", type(first).__qualname__)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    left = [error]
    seen: set[int] = set()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, BaseExceptionGroup):
            left.extend(reversed(cast("BaseExceptionGroup[BaseException]", one).exceptions))
        else:
            yield one
