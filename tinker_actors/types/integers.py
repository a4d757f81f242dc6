"""Rows of integers within the wire's types: what has no room there is named with its place, and never wraps round."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from tinker_actors.checks import integer, number
from tinker_actors.errors import InvalidInput
from tinker_actors.types.lists import int32_list

__all__ = ["INT32", "INT64", "TopkLogprobs", "first_outside", "int32_array", "topk_table"]

TopkLogprobs = tuple[tuple[tuple[int, float], ...] | None, ...]
"""For each position the (token id, log-probability) pairs, best first; None where nothing was computed."""

INT32 = -(2**31), 2**31 - 1
INT64 = -(2**63), 2**63 - 1
_INT32 = np.dtype(np.int32)
_CURE = "Give integers of 32 bits"


def first_outside(given: Any, low: int, high: int) -> str | None:
    """Such as "4294967296 at index 3": the first integer of a row or array that is not within ``low`` ... ``high``.

    None where there is no such integer, or something else stands before it.
    """
    if isinstance(given, np.ndarray):
        array = cast("NDArray[Any]", given)
        if array.dtype.kind in "iu":
            found = np.argwhere((array < low) | (array > high))
            if not len(found):
                return None
            place: list[int] = found[0].tolist()
            return f"{array[tuple(place)]} at index {place[0] if len(place) == 1 else place}"
        if array.dtype != object or array.ndim != 1:
            return None
        given = array.tolist()
    if not isinstance(given, list | tuple):
        return None
    for index, value in enumerate(cast("list[Any]", given)):
        if not isinstance(value, int | np.integer):
            return None
        if not low <= value <= high:
            return f"{value} at index {index}"
    return None


def int32_array(field: str, given: Any) -> NDArray[np.int32]:
    """A flat row of integers as int32: ``given`` itself where it is that. Raises InvalidInput."""
    if given.__class__ is np.ndarray and given.dtype == _INT32 and given.ndim == 1:
        return given
    kept = int32_list(given)
    if kept is not None:
        return kept
    if place := first_outside(given, *INT32):
        raise InvalidInput(field, f"holds {place}, which is beyond 32 bits", _CURE)
    try:
        array = np.asarray(given)
    except (ValueError, TypeError):
        raise InvalidInput(field, "is not a flat list of integers", _CURE) from None
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InvalidInput(field, "is not a flat list of integers", _CURE)
    return np.ascontiguousarray(array, dtype=np.int32)


def topk_table(field: str, given: Any) -> TopkLogprobs:
    """``given`` with ids of 32 bits, and lists as tuples. Raises InvalidInput that names row and column."""
    try:
        table = msgspec.convert(given, TopkLogprobs)
        rows = [row for row in table if row]
        if all(INT32[0] <= min(row)[0] and max(row)[0] <= INT32[1] for row in rows):
            return table
    except msgspec.ValidationError:  # numbers of numpy, or what is none
        pass
    cure = "Give a row of (token id, log-probability) for each position, or None"
    try:
        return tuple([None if row is None else _row(field, at, row, cure) for at, row in enumerate(given)])
    except InvalidInput:
        raise
    except (TypeError, ValueError):
        raise InvalidInput(field, "is not a table of pairs", cure) from None


def _row(field: str, at: int, row: Iterable[Any], cure: str) -> tuple[tuple[int, float], ...]:
    low, high = INT32
    return tuple(
        [
            (
                integer(f"{field}[{at}][{column}]", token, cure, low=low, high=high),
                number(f"{field}[{at}][{column}]", logprob, cure),
            )
            for column, (token, logprob) in enumerate(row)
        ]
    )
