"""Histogram: how values are spread, over bounded memory."""

from __future__ import annotations

import math
from collections import deque
from typing import final

import msgspec

__all__ = ["Histogram", "HistogramSnapshot"]

_KEPT = 1024


class HistogramSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Count, sum, mean, least and greatest of all values; percentiles of the latest 1,024."""

    count: int
    total: float
    mean: float
    minimum: float
    maximum: float
    p50: float
    p95: float
    p99: float


@final
class Histogram:
    """Values as they come. Percentiles are of the latest ``kept`` ones, the rest of all."""

    __slots__ = ("_count", "_latest", "_maximum", "_minimum", "_total")

    def __init__(self, kept: int = _KEPT) -> None:
        self._latest: deque[float] = deque(maxlen=kept)
        self._count = 0
        self._total = 0.0
        self._minimum = math.inf
        self._maximum = -math.inf

    def observe(self, value: float) -> None:
        """One more."""
        self._latest.append(value)
        self._count += 1
        self._total += value
        self._minimum = min(self._minimum, value)
        self._maximum = max(self._maximum, value)

    def snapshot(self) -> HistogramSnapshot | None:
        """What is known; None while there is no value.

        The median of an even number of values is the mean of the middle two; other percentiles are the value of the
        nearest rank.
        """
        if not self._count:
            return None
        values = sorted(self._latest)
        middle = len(values) // 2
        return HistogramSnapshot(
            count=self._count,
            total=self._total,
            mean=self._total / self._count,
            minimum=self._minimum,
            maximum=self._maximum,
            p50=values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2,
            p95=_ranked(values, 95),
            p99=_ranked(values, 99),
        )


def _ranked(values: list[float], percent: int) -> float:
    return values[max(0, math.ceil(len(values) * percent / 100) - 1)]
