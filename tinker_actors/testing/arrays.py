"""Hypothesis strategies for arrays and tensors, cheap enough for thousands of examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import tinker_actors.types as ta

__all__ = ["BOOLEANS", "numbers", "tensors"]

# One byte drawn is one number of an array: a draw for each number takes a hundred times as long, and codecs see only
# its bits. The edges come first, which is where examples shrink to; the other bits are those of a fixed hash.
_SPREAD = np.arange(256, dtype=np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15)


def _palette(edges: Sequence[float], spread: NDArray[Any]) -> NDArray[Any]:
    table = spread.copy()
    table[: len(edges)] = edges
    return table


_INT64 = _palette((0, 1, -1, 2**31 - 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63)), _SPREAD.view(np.int64))
_TOKENS = _palette((0, 1, 127, 128, 2**31 - 1), (_SPREAD >> np.uint64(33)).astype(np.int32))
_EDGES = (0.0, 1.0, -0.0, -1.0, 0.1, 2.0**-149, 2.0**-126, -99999.0, 3.4028234663852886e38, -3.4028234663852886e38)
_FINITE = _palette(_EDGES, ((_SPREAD >> np.uint64(32)).astype(np.uint32) & 0xBFFF_FFFF).view(np.float32))
_FLOATS = _palette((*_EDGES, np.inf, -np.inf), _FINITE)


_TABLES = {"int64": _INT64, "tokens": _TOKENS, "finite": _FINITE, "floats": _FLOATS}


# Making a strategy takes about as long as drawing from it, so each is made once.
@cache
def numbers(table: str, least: int, most: int) -> st.SearchStrategy[NDArray[Any]]:
    values = _TABLES[table]
    return st.binary(min_size=least, max_size=most).map(lambda drawn: values[np.frombuffer(drawn, np.uint8)])


BOOLEANS = st.booleans()
_DTYPES: st.SearchStrategy[ta.TensorDtype] = st.sampled_from(["float32", "int64"])


@cache
def _bits(size: int) -> st.SearchStrategy[int]:
    return st.integers(0, 2**size - 1)


_SHAPES = ((1,), (0,), (4,), (2, 3), (1, 1), (3, 0), (0, 2), (4, 4), (2, 1, 3), (1, 0, 2))


@cache
def _shapes(shapes: tuple[tuple[int, ...], ...]) -> st.SearchStrategy[tuple[int, ...]]:
    return st.sampled_from(shapes)


@cache
@st.composite
def tensors(
    draw: st.DrawFn,
    finite: bool,
    *,
    rows: int | None = None,
    dtype: ta.TensorDtype | None = None,
    dense: bool = False,
    shapes: tuple[tuple[int, ...], ...] = _SHAPES,
) -> ta.TensorData:
    dtype = dtype or draw(_DTYPES)
    table = "int64" if dtype == "int64" else "finite" if finite else "floats"
    shape = draw(_shapes(shapes))
    if rows is not None:
        shape = (rows, *shape[1:2])
    size = math.prod(shape)
    if len(shape) == 2 and not dense and draw(BOOLEANS):
        bits = draw(_bits(size))  # which entries are stored
        stored = np.array([bits >> index & 1 for index in range(size)], np.bool_).reshape(shape)
        ends = np.cumsum([0, *stored.sum(axis=1)])
        columns = np.nonzero(stored)[1]
        return ta.TensorData(draw(numbers(table, len(columns), len(columns))), dtype, shape, ends, columns)
    return ta.TensorData(draw(numbers(table, size, size)), dtype, shape)
