"""gspo: the clipped objective with one ratio for a whole sequence, ``-sum(min(s * A, clip(s, low, high) * A))``.

After Zheng et al., "Group Sequence Policy Optimization" (2025), equations 5 to 7: s is the geometric mean of the
tokens' ratios, exp(sum(m * (lp - logprobs)) / sum(m)), with m, ``sequence_ratio_mask``, 1 on the tokens that form it.
The slope goes through s to all of these tokens. As all losses here it is a sum over positions, where the paper has a
mean: with one advantage for all n tokens of a response, it is n times the paper's. The default bounds are those of
the paper.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from tinker_actors.errors import InvalidInput
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

__all__ = ["GSPO"]

_MASK: Final = "sequence_ratio_mask"


def _terms(lp: FloatArray, inputs: Inputs, settings: Settings) -> Terms:
    mask, advantages = inputs[_MASK], inputs["advantages"]
    count = max(float(np.add.reduce(mask, dtype=np.float64)), 1.0)
    mean = float(np.add.reduce(mask * (lp - inputs["logprobs"]), dtype=np.float64)) / count
    log_ratio = np.full_like(lp, mean)
    ratio = np.exp(log_ratio)
    free = times_advantages(ratio, advantages)
    held = np.clip(ratio, *bounds(inputs, settings)) * advantages
    clipped = free > held
    by_mean = -float(np.add.reduce(free, where=~clipped, dtype=np.float64))
    slope = np.multiply(mask, by_mean / count, out=np.empty_like(lp))
    return Terms(-np.minimum(free, held), slope, ratio_metrics(log_ratio, advantages != 0.0, clipped))


def _check(inputs: Inputs, settings: Settings) -> None:
    mask = inputs[_MASK]
    if not np.isin(mask, (0.0, 1.0)).all():
        raise InvalidInput(_MASK, "holds other numbers than 0 and 1", "Give 1 for tokens that form the ratio, else 0")
    if not mask.any() and inputs["advantages"].any():
        raise InvalidInput(_MASK, "marks no token, and there are advantages", "Mark the tokens that were sampled")
    check_bounds(inputs, settings)


GSPO: Final = Loss(
    inputs=("logprobs", "advantages", _MASK),
    optional=(CLIP_LOW, CLIP_HIGH),
    settings={CLIP_LOW: 1.0 - 3e-4, CLIP_HIGH: 1.0 + 4e-4},
    terms=_terms,
    check=_check,
)
