"""What every kind of fault is made of: where it happens, and how a run that meets it must end."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import ClassVar

import msgspec

from tinker_actors.errors import InvalidInput

__all__ = ["AtRequest", "Ending", "FaultKind", "not_negative", "positive"]


class Ending(StrEnum):
    """How a run must end that meets a fault, from the best to the worst.

    EQUAL: every operation has the result of an undisturbed run, and the weights are equal bit for bit. ERROR: an
    operation that is hit may end with an error instead; what took effect is what the engine gives for just that.
    VERDICT: besides, an operation may end with a verdict, which says that the truth about it can't be known.
    """

    EQUAL = "bit-equal"
    ERROR = "error"
    VERDICT = "verdict"


class FaultKind(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Something that goes wrong."""

    ends: ClassVar[Ending] = Ending.EQUAL

    @property
    def ending(self) -> Ending:
        """How a run that meets it must end; what its fields say counts."""
        return self.ends


class AtRequest(FaultKind, frozen=True, kw_only=True):
    """A fault that happens at the ``nth`` wire attempt whose path ends with ``path`` ("": any), re-sends counted."""

    path: str
    nth: int = 1

    def __post_init__(self) -> None:
        positive("nth", self.nth)


def positive(field: str, value: int) -> None:
    """Refuse what is not counted from 1."""
    if value < 1:
        raise InvalidInput(field, f"{value} is not positive", "Count from 1")


def not_negative(field: str, value: float) -> None:
    """Refuse negative, infinite and undefined numbers."""
    if not 0 <= value < math.inf:
        raise InvalidInput(field, f"{value} is out of range", "Use 0 or more")
