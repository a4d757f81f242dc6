"""cispo: ``-sum(stopgrad(clip(r, low, high)) * lp * A)`` with r = exp(lp - logprobs) (MiniMax-M1, 2025)."""

from __future__ import annotations

from typing import Final

import numpy as np

from tinker_actors.local.engine.losses.loss import Inputs, Loss, Settings, Terms
from tinker_actors.local.engine.losses.ratio import CLIP_HIGH, CLIP_LOW, bounds, check_bounds, ratio_metrics
from tinker_actors.types.tensor import FloatArray

__all__ = ["CISPO"]


def _terms(lp: FloatArray, inputs: Inputs, settings: Settings) -> Terms:
    log_ratio, advantages = lp - inputs["logprobs"], inputs["advantages"]
    ratio = np.exp(log_ratio)
    held = np.clip(ratio, *bounds(inputs, settings))
    slope = -held * advantages  # that of lp alone: the ratio is a weight here
    return Terms(slope * lp, slope, ratio_metrics(log_ratio, advantages != 0.0, held != ratio))


CISPO: Final = Loss(
    inputs=("logprobs", "advantages"),
    optional=(CLIP_LOW, CLIP_HIGH),
    settings={CLIP_LOW: 0.0, CLIP_HIGH: 1.2},
    terms=_terms,
    check=check_bounds,
)
