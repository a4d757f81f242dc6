"""ppo: ``-sum(min(r * A, clip(r, low, high) * A))`` with r = exp(lp - logprobs) (Schulman et al. 2017)."""

from __future__ import annotations

from typing import Final

import numpy as np

from tinker_actors.local.engine.losses.loss import Inputs, Loss, Settings, Terms
from tinker_actors.local.engine.losses.ratio import (
    CLIP_HIGH,
    CLIP_LOW,
    bounds,
    check_bounds,
    ratio_metrics,
    times_advantages,
)
from tinker_actors.types.tensor import FloatArray

__all__ = ["PPO"]


def _terms(lp: FloatArray, inputs: Inputs, settings: Settings) -> Terms:
    log_ratio, advantages = lp - inputs["logprobs"], inputs["advantages"]
    ratio = np.exp(log_ratio)
    free = times_advantages(ratio, advantages)
    held = np.clip(ratio, *bounds(inputs, settings)) * advantages
    clipped = free > held  # what is held has no slope
    slope = np.where(clipped, np.zeros_like(free), -free)
    return Terms(-np.minimum(free, held), slope, ratio_metrics(log_ratio, advantages != 0.0, clipped))


PPO: Final = Loss(
    inputs=("logprobs", "advantages"),
    optional=(CLIP_LOW, CLIP_HIGH),
    settings={CLIP_LOW: 0.8, CLIP_HIGH: 1.2},
    terms=_terms,
    check=check_bounds,
)
