"""Metrics of a whole request from those of its data, so that a client can put requests together in the same way.

A client weighs a request's mean by its number of data (WIRE 4.4), so a mean is one over data here, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

__all__ = ["reduced"]

_REDUCTIONS: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "sum": math.fsum,
    "mean": lambda values: math.fsum(values) / len(values),
    "min": min,
    "max": max,
}


def reduced(data: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each metric over ``data`` by the reduction in its name; all of them have the same ones."""
    names = data[0] if data else ()
    return {name: _REDUCTIONS[name.rpartition(":")[2]]([metrics[name] for metrics in data]) for name in names}
