"""How many requests of one purpose a transport carries at once, as a user says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from tinker_actors.checks import integer
from tinker_actors.errors import InvalidInput
from tinker_actors.ports import Purpose

__all__ = ["checked_limits"]

_PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
_CURE = f"Give positive integers for any of {', '.join(_PURPOSES)}"


def checked_limits(limits: Mapping[Purpose, int] | None) -> dict[Purpose, int]:
    """``limits`` by purpose, none for None. InvalidInput for no purpose and for what is no positive integer."""
    if limits is None:
        return {}
    for purpose in limits:
        if purpose not in _PURPOSES:
            raise InvalidInput("limits", f"{purpose!r} is no purpose", _CURE)
    return {purpose: integer(f"limits[{purpose!r}]", limit, _CURE, low=1) for purpose, limit in limits.items()}
