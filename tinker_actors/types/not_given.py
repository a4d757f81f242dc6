"""Left out, or null? Two values for "nothing was given here", apart from None, which the wire knows as null."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal, TypeAlias, TypeVar

__all__ = ["NOT_GIVEN", "OMIT", "NotGiven", "Omit", "Unset", "coalesce", "is_given"]

T = TypeVar("T")


class NotGiven(Enum):
    """NOT_GIVEN: the caller did not say, so that a default may take its place."""

    NOT_GIVEN = "not given"

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "NOT_GIVEN"


class Omit(Enum):
    """OMIT: the caller wants this left out, even where there is a default."""

    OMIT = "omit"

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "OMIT"


NOT_GIVEN: Literal[NotGiven.NOT_GIVEN] = NotGiven.NOT_GIVEN
OMIT: Literal[Omit.OMIT] = Omit.OMIT
Unset: TypeAlias = NotGiven | Omit


def is_given(value: Any) -> bool:
    """Whether ``value`` is a value, None included, and neither NOT_GIVEN nor OMIT."""
    return not isinstance(value, NotGiven | Omit)


def coalesce(value: T | Unset, default: T) -> T:
    """``value``, or ``default`` where nothing was given. None is a value."""
    return default if isinstance(value, NotGiven | Omit) else value
