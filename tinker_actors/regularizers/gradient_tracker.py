"""Norms of gradients, of each term of a loss and of them all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, final

import numpy as np

from tinker_actors.regularizers.evaluate import Gradients, evaluate

__all__ = ["GradientTracker", "gradient_norm", "norm_of"]


def gradient_norm(function: Callable[[Any], Any], logprobs: Any) -> float:
    """The Euclidean norm of the gradient of ``function(logprobs)``, all tensors together; blocking.

    An array that it returns is summed first. Raises LossTermError, and GradientUnavailable where there is no gradient
    to be had: never 0 for one that is unknown.
    """
    evaluated = evaluate("function", lambda _, given: function(given), (), logprobs, gradients=True)
    assert evaluated.gradients is not None
    return norm_of(evaluated.gradients)


@final
class GradientTracker:
    """Adds up the gradients of a loss's terms, and keeps the norm of each."""

    def __init__(self) -> None:
        self._norms: dict[str, float] = {}
        self._total: list[Any] | None = None

    def add(self, name: str, gradients: Gradients, weight: float = 1.0) -> float:
        """Count a term's ``gradients``, ``weight`` times; returns their norm without the weight."""
        self._norms[name] = norm_of(gradients)
        weighted = [weight * gradient for gradient in gradients]
        if self._total is None:
            self._total = weighted
        else:
            self._total = [total + each for total, each in zip(self._total, weighted, strict=True)]
        return self._norms[name]

    @property
    def norms(self) -> Mapping[str, float]:
        """Of each term, without its weight."""
        return MappingProxyType(self._norms)

    @property
    def total(self) -> Gradients:
        """The gradient of the weighted sum, one array for each tensor of logprobs; none before the first term."""
        return tuple(self._total or ())

    @property
    def total_norm(self) -> float:
        """The norm of ``total``."""
        return norm_of(self.total)


def norm_of(gradients: Sequence[Any]) -> float:
    """The Euclidean norm of all of them together."""
    return math.hypot(*(float(np.linalg.norm(gradient)) for gradient in gradients))
