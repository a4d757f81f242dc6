"""What every kind of fault is made of: where it happens, and how a run that meets it must end."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Final, Literal, get_args, get_origin

import msgspec

from tinker_actors.checks import flag, integer, number, text
from tinker_actors.errors import InvalidInput
from tinker_actors.server_class import ServerClass

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
    """Something that goes wrong. Raises InvalidInput for a field of another type, and for what can't be.

    Numbers of numpy are taken, and become Python's own.
    """

    where: ClassVar[str]
    ends: ClassVar[Ending] = Ending.EQUAL
    loses_answers: ClassVar[bool] = False
    """Whether it may leave open if a request has arrived."""

    def __post_init__(self) -> None:
        for name, taken in _checks(type(self)).items():
            given = getattr(self, name)
            value = taken(name, given)
            if value is not given:
                msgspec.structs.force_setattr(self, name, value)

    @property
    def ending(self) -> Ending:
        """How a run that meets it must end; what its fields say counts."""
        return self.ends

    def ending_at(self, server_class: ServerClass, *, asks: bool) -> Ending:
        """The same at a server of that class: where one does a repeated request again, and the client's policy
        ``asks`` its user what an unknown outcome means, what loses an answer may end with a verdict.
        """
        asked = asks and server_class is ServerClass.NONE and self.loses_answers
        return Ending.VERDICT if asked else self.ending


class AtRequest(FaultKind, frozen=True, kw_only=True):
    """A fault that happens at the ``nth`` wire attempt whose path ends with ``path`` ("": any), re-sends counted."""

    path: str
    nth: int = 1

    def __post_init__(self) -> None:
        FaultKind.__post_init__(self)
        positive("nth", self.nth)


def positive(field: str, value: int) -> None:
    """Refuse what is not counted from 1."""
    if value < 1:
        raise InvalidInput(field, f"{value} is not positive", "Count from 1")


def not_negative(field: str, value: float) -> None:
    """Refuse negative, infinite and undefined numbers."""
    if not 0 <= value < math.inf:
        raise InvalidInput(field, f"{value} is out of range", "Use 0 or more")


_Check = Callable[[str, Any], Any]


def _whole(field: str, value: Any) -> int:
    return integer(field, value, "Give a whole number")


def _number(field: str, value: Any) -> float:
    return number(field, value, "Give a number")


def _text(field: str, value: Any) -> str:
    return text(field, value, "Give a string", empty=True)


_OF_TYPES: Final[dict[Any, _Check]] = {int: _whole, float: _number, bool: flag, str: _text}


@cache
def _checks(kind: type[FaultKind]) -> dict[str, _Check]:
    """What a value of each field has to pass, by the field's name."""
    return {field.name: _check_of(field.type) for field in msgspec.structs.fields(kind)}


def _check_of(annotation: Any) -> _Check:
    if get_origin(annotation) is Literal:
        allowed = get_args(annotation)

        def one_of(field: str, value: Any) -> Any:
            if not isinstance(value, str) or value not in allowed:
                raise InvalidInput(field, f"is {value!r}", f"Give one of {', '.join(map(repr, allowed))}")
            return value

        return one_of
    if get_origin(annotation) is UnionType:
        (only,) = [one for one in get_args(annotation) if one is not type(None)]
        check = _check_of(only)
        return lambda field, value: None if value is None else check(field, value)
    return _OF_TYPES[annotation]
