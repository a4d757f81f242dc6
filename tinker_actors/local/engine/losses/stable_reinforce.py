"""stable_reinforce, by a formula of this server's own: what the hosted service computes is not public (WIRE 5.5).

Over the targets that were sampled, ``sum(-stopgrad(min(r, 1)) * A * lp + kl_coeff / 2 * (lp - logprobs)**2)`` with
r = exp(lp - logprobs). That is REINFORCE (Williams 1992) with two brakes: the importance weight corrects for a policy
that has moved on, but never makes a token count for more than it did when it was sampled; and the square pulls the
policy back to that which sampled, by an estimate of their KL divergence. The targets' provenance says which were
sampled; whatever the others' advantages are, they count nothing.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from tinker_actors.local.engine.losses.loss import Inputs, Loss, Settings, Terms
from tinker_actors.local.engine.losses.ratio import ratio_metrics
from tinker_actors.types.tensor import FloatArray

__all__ = ["STABLE_REINFORCE"]


def _terms(lp: FloatArray, inputs: Inputs, settings: Settings) -> Terms:
    sampled = inputs["sampled"]
    log_ratio, advantages = (lp - inputs["logprobs"]) * sampled, inputs["advantages"] * sampled
    push = -np.exp(np.minimum(log_ratio, 0.0)) * advantages
    pull = np.multiply(log_ratio, settings["kl_coeff"], out=np.empty_like(lp))
    loss = push * lp + np.multiply(pull * log_ratio, 0.5, out=np.empty_like(lp))
    return Terms(loss, push + pull, ratio_metrics(log_ratio, sampled != 0.0, log_ratio > 0.0))


STABLE_REINFORCE: Final = Loss(
    inputs=("logprobs", "advantages"), settings={"kl_coeff": 0.01}, terms=_terms, sampled=True
)
