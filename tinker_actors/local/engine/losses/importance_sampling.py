"""importance_sampling: ``-sum(r * advantages)`` with r = exp(lp - logprobs)."""

from __future__ import annotations

from typing import Final

import numpy as np

from tinker_actors.local.engine.losses.loss import Inputs, Loss, Settings, Terms
from tinker_actors.local.engine.losses.ratio import ratio_metrics, times_advantages
from tinker_actors.types.tensor import FloatArray

__all__ = ["IMPORTANCE_SAMPLING"]


def _terms(lp: FloatArray, inputs: Inputs, _settings: Settings) -> Terms:
    log_ratio, advantages = lp - inputs["logprobs"], inputs["advantages"]
    loss = -times_advantages(np.exp(log_ratio), advantages)
    return Terms(loss, loss, ratio_metrics(log_ratio, advantages != 0.0))


IMPORTANCE_SAMPLING: Final = Loss(inputs=("logprobs", "advantages"), terms=_terms)
