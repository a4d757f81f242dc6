"""How much of a computation's time is spent in numpy's matrix products?

Taken twice, in two ways that err differently. *In place*: ``np.matmul`` is replaced by one that reads the clock
before and after; what a reading costs is taken off. *Replayed*: the products of one run (same shapes, strides and
order) are computed alone, and find in the cache what the work between them would have driven out.

The clock is the CPU time of this thread, which one-threaded BLAS computes in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Products", "Replay", "watched_products"]

_Array: TypeAlias = NDArray[np.generic]
_Layout: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], str]
_Operand: TypeAlias = tuple[int, _Layout]  # its address and how it lies there
_Product: TypeAlias = tuple[_Operand, _Operand, _Operand | None]

_ARRAYS: Final = 8  # of one layout in a replay: more than a model has layers, so that its weights stay apart
_READINGS: Final = 2000


@final
class Products:
    """What was seen: ``seconds`` in ``count`` products of ``operations`` multiplications and additions."""

    def __init__(self, clock_cost: float) -> None:
        self.seconds = 0.0
        self.operations = 0
        self._clock_cost = clock_cost
        self.seen: list[_Product] = []

    @property
    def count(self) -> int:
        """How many products there were."""
        return len(self.seen)

    def add(self, seconds: float, a: _Array, b: _Array, out: _Array | None, result: _Array) -> None:
        """One more product."""
        self.seconds += seconds - self._clock_cost
        self.operations += 2 * result.size * a.shape[-1]
        self.seen.append((_operand(a), _operand(b), None if out is None else _operand(out)))

    def replay(self) -> Replay:
        """The same products once more, alone."""
        return Replay(self.seen)


@contextmanager
def watched_products() -> Generator[Products]:
    """While this is open, every ``np.matmul(a, b)`` of the process is timed. For one thread."""
    products = Products(_clock_cost())
    real: Callable[..., Any] = np.matmul
    clock = time.thread_time

    def watched(a: _Array, b: _Array, /, out: _Array | None = None) -> _Array:
        begun = clock()
        result: _Array = real(a, b, out=out)
        ended = clock()
        products.add(ended - begun, a, b, out, result)
        return result

    np.matmul = watched
    try:
        yield products
    finally:
        np.matmul = real


@final
class Replay:
    """Products over operands of its own. Those that lay in one place do so again; there are _ARRAYS of one layout."""

    def __init__(self, seen: list[_Product]) -> None:
        self._places: dict[_Layout, dict[int, int]] = {}
        self._arrays: dict[_Layout, list[_Array]] = {}
        self._products = [
            (self._array(a), self._array(b), None if out is None else self._array(out)) for a, b, out in seen
        ]

    def seconds(self) -> float:
        """Compute them all once."""
        matmul = np.matmul
        begun = time.thread_time()
        for a, b, out in self._products:
            matmul(a, b, out=out)
        return time.thread_time() - begun

    def _array(self, operand: _Operand) -> _Array:
        address, layout = operand
        places, arrays = self._places.setdefault(layout, {}), self._arrays.setdefault(layout, [])
        index = places.setdefault(address, len(places)) % _ARRAYS
        if index == len(arrays):
            arrays.append(_array_of(layout))
        return arrays[index]


def _clock_cost() -> float:
    """Seconds between two readings with nothing in between."""
    begun = time.thread_time()
    for _ in range(_READINGS):
        time.thread_time()
    return (time.thread_time() - begun) / _READINGS


def _operand(array: _Array) -> _Operand:
    return array.ctypes.data, (array.shape, array.strides, array.dtype.str)


def _array_of(layout: _Layout) -> _Array:
    """An array of this shape and these strides (none of them negative), filled with ones."""
    shape, strides, dtype = layout
    itemsize = np.dtype(dtype).itemsize
    extent = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) + itemsize
    memory = np.ones(-(-extent // itemsize), dtype)
    return np.lib.stride_tricks.as_strided(memory, shape, strides)
