"""cross_entropy: ``-sum(weights * lp)``. Weights may be negative, and a position may have several targets."""

from __future__ import annotations

from typing import Final

from tinker_actors.local.engine.losses.loss import Inputs, Loss, Settings, Terms
from tinker_actors.types.tensor import FloatArray

__all__ = ["CROSS_ENTROPY"]


def _terms(lp: FloatArray, inputs: Inputs, _settings: Settings) -> Terms:
    weights = inputs["weights"]
    return Terms(-weights * lp, -weights, {})


CROSS_ENTROPY: Final = Loss(inputs=("weights",), terms=_terms, many_targets=True)
