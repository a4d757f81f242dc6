"""Numbers that users give."""

from __future__ import annotations

import math

__all__: list[str] = []


def number(given: object) -> float:
    """What is no number compares with nothing, as NaN does, so that a check of the range refuses it."""
    return given if isinstance(given, (int, float)) else math.nan


def is_whole(given: object, least: int) -> bool:
    """Whether it is a whole number, at least `least`, or inf."""
    return number(given) >= least and (given == math.inf or given == int(number(given)))
