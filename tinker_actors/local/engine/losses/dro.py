"""dro: ``-sum(lp * A - beta / 2 * (lp - logprobs)**2)``, direct reward optimisation (Richemond et al. 2024)."""

from __future__ import annotations

from typing import Final

import numpy as np

from tinker_actors.local.engine.losses.loss import Inputs, Loss, Settings, Terms
from tinker_actors.local.engine.losses.ratio import ratio_metrics
from tinker_actors.types.tensor import FloatArray

__all__ = ["DRO"]


def _terms(lp: FloatArray, inputs: Inputs, settings: Settings) -> Terms:
    log_ratio, advantages = lp - inputs["logprobs"], inputs["advantages"]
    pull = np.multiply(log_ratio, settings["beta"], out=np.empty_like(log_ratio))
    loss = np.multiply(pull * log_ratio, 0.5, out=np.empty_like(log_ratio)) - lp * advantages
    return Terms(loss, pull - advantages, ratio_metrics(log_ratio, np.ones_like(log_ratio, np.bool_)))


DRO: Final = Loss(inputs=("logprobs", "advantages"), settings={"beta": 0.01}, terms=_terms)
