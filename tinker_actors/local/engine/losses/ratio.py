"""The ratio of a token's probability now to that when it was sampled, its bounds, and what is told of both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tinker_actors.errors import InvalidInput
from tinker_actors.local.engine.losses.loss import Inputs, Settings
from tinker_actors.types.tensor import FloatArray

__all__ = ["CLIP_HIGH", "CLIP_LOW", "bounds", "check_bounds", "ratio_metrics", "times_advantages"]

CLIP_LOW: Final = "clip_low_threshold"
CLIP_HIGH: Final = "clip_high_threshold"
_LARGEST: Final = 88.0  # its exponential is still a float32


def bounds(inputs: Inputs, settings: Settings) -> tuple[FloatArray | float, FloatArray | float]:
    """The bounds of the ratio: a datum's own, one for each position, before those of the settings."""
    low, high = inputs.get(CLIP_LOW), inputs.get(CLIP_HIGH)
    return settings[CLIP_LOW] if low is None else low, settings[CLIP_HIGH] if high is None else high


def check_bounds(inputs: Inputs, settings: Settings) -> None:
    """Raise InvalidInput unless a datum's own bounds are such."""
    low, high = bounds(inputs, settings)
    for name, bound in ((CLIP_LOW, low), (CLIP_HIGH, high)):
        if np.any(np.less(bound, 0.0)):
            raise InvalidInput(name, "holds a negative number", "Give bounds of a ratio of probabilities, from 0")
    if np.any(np.greater(low, high)):
        name = CLIP_LOW if CLIP_LOW in inputs else CLIP_HIGH
        raise InvalidInput(name, "crosses the other bound", f"Let {CLIP_LOW} be at most {CLIP_HIGH} everywhere")


def times_advantages(ratio: FloatArray, advantages: FloatArray) -> FloatArray:
    """``ratio * advantages``; 0 where there is no advantage, however large the ratio."""
    return np.multiply(ratio, advantages, out=np.zeros_like(ratio), where=advantages != 0.0)


def ratio_metrics(
    log_ratio: FloatArray, counted: NDArray[np.bool_], clipped: NDArray[np.bool_] | None = None
) -> Mapping[str, float]:
    """The smallest and largest ratio, and the mean of its negative logarithm: an estimate of the KL divergence.

    Only of positions that are ``counted``; without any the ratio is 1. With ``clipped``, how many of them are.
    """
    chosen = log_ratio[counted]
    found = {"ratio:min": 1.0, "ratio:max": 1.0, "kl:mean": 0.0}
    if chosen.size:
        found["ratio:min"] = math.exp(min(float(chosen.min()), _LARGEST))
        found["ratio:max"] = math.exp(min(float(chosen.max()), _LARGEST))
        found["kl:mean"] = -float(np.add.reduce(chosen, dtype=np.float64)) / chosen.size
    if clipped is not None:
        found["clipped:sum"] = float(np.count_nonzero(clipped & counted))
    return found
