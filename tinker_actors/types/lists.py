"""Plain lists of numbers to memory in one pass: several times as fast as numpy's way over Python objects."""

from __future__ import annotations

import struct
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["float32_list", "int32_list", "int64_list"]

_BEYOND = np.float32(2**63)


def int32_list(given: object) -> NDArray[np.int32] | None:
    """A flat list or tuple of integers within int32 as a constant array; None for anything else."""
    packed = _integers(given, "i")
    return None if packed is None else np.frombuffer(packed, np.int32)


def int64_list(given: object) -> NDArray[np.int64] | None:
    """A flat list or tuple of integers within int64 as a constant array; None for anything else."""
    packed = _integers(given, "q")
    return None if packed is None else np.frombuffer(packed, np.int64)


def float32_list(given: object) -> NDArray[np.float32] | None:
    """A flat list or tuple of numbers below 2**63, a float first, as a constant array; None for anything else."""
    if given.__class__ is not list and given.__class__ is not tuple:
        return None
    values = cast("list[Any]", given)
    if not values or values[0].__class__ is not float:
        return None
    try:
        # struct takes whatever has __float__; a sum is a float only of what mixes with floats
        if sum(values).__class__ is not float:
            return None
        packed = struct.pack(f"{len(values)}f", *values)
    except (struct.error, OverflowError, TypeError, ValueError):
        return None
    array = np.frombuffer(packed, np.float32)
    # NaN, infinite or beyond float32; or an integer that numpy takes for no number, which only the thorough way tells
    return array if array.min() > -_BEYOND and array.max() < _BEYOND else None


def _integers(given: object, kind: str) -> bytes | None:
    if given.__class__ is not list and given.__class__ is not tuple:
        return None
    values = cast("list[Any]", given)
    if not values or values[0].__class__ is not int:
        return None
    try:
        return struct.pack(f"{len(values)}{kind}", *values)
    except struct.error:
        return None
