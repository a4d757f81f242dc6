"""Regularizers of what logprobs have to do with one another: Consistency, Orthogonality and GradientPenalty."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from tinker_actors.checks import flag, number, text
from tinker_actors.errors import InvalidInput
from tinker_actors.regularizers.arrays import as_tensors, library_of, like, number_of, plain, regrouped
from tinker_actors.regularizers.distributions import divergence
from tinker_actors.regularizers.gradients import slopes
from tinker_actors.regularizers.targets import RowReduction, checked_choice, reduced, references
from tinker_actors.types import Datum

__all__ = ["Consistency", "GradientPenalty", "Orthogonality"]

_SMALLEST_NORM = 1e-8


class Consistency(msgspec.Struct, frozen=True, kw_only=True):
    """How far logprobs are from those of a pair, such as of the same text before it was changed.

    The pair is ``reference_logprobs``, or the loss input ``pair_field`` of each datum. ``metric`` is "mse", "l1",
    "cosine" (1 - the cosine of each datum's tensors, on average, whatever the ``reduction``) or "kl" (symmetric, for
    each row along the last axis). Raises InvalidInput where there is no pair or one of another shape. Metrics:
    ``consistency_mse`` and so on, for the metric in use.
    """

    pair_field: str = "original_logprobs"
    metric: Literal["mse", "l1", "cosine", "kl"] = "mse"
    reduction: RowReduction = "mean"
    reference_logprobs: Any = None

    def __post_init__(self) -> None:
        text("pair_field", self.pair_field, "Give the name of a loss input")
        checked_choice("metric", self.metric, ("mse", "l1", "cosine", "kl"))
        checked_choice("reduction", self.reduction, ("sum", "mean", "none"))

    def __call__(self, data: Sequence[Datum], logprobs: Any) -> tuple[Any, dict[str, float]]:
        """The distance, a scalar of the library of ``logprobs``, and metrics."""
        tensors = as_tensors(logprobs)
        pairs = references(data, tensors, given=self.reference_logprobs, field=self.pair_field)
        xp = library_of(tensors)
        both = list(zip(tensors, pairs, strict=True))
        if self.metric == "mse":
            distances = [(a - b) ** 2 for a, b in both]
        elif self.metric == "l1":
            distances = [xp.abs(a - b) for a, b in both]
        elif self.metric == "kl":
            distances = [divergence(a, b, symmetric=True) for a, b in both]
        else:
            distances = [_cosine_distance(xp, a, b) for a, b in both]
        reduction = "mean" if self.metric == "cosine" else self.reduction
        value = reduced(distances, reduction)
        shown = reduced(distances, "mean") if reduction == "none" else value
        return value, {f"consistency_{self.metric}": number_of(shown)}


class Orthogonality(msgspec.Struct, frozen=True, kw_only=True):
    """How far the rows of a matrix M are from orthogonal, seen in G = M·Mᵀ.

    ``mode`` "soft" is the sum of squares off G's diagonal, "hard" that of G - I, "spectral" (trace G - n)² and the
    sum off the diagonal. Logprobs of several data, which must have one shape, are stacked first. ``axis`` "rows": all
    axes but the last count rows; "sequence": the first after the batch does; "vocabulary": the last does. With
    ``normalize`` each row is divided by its norm. Raises InvalidInput. Metrics: ``orthogonality``.
    """

    mode: Literal["soft", "hard", "spectral"] = "soft"
    normalize: bool = True
    axis: Literal["rows", "sequence", "vocabulary"] = "rows"

    def __post_init__(self) -> None:
        checked_choice("mode", self.mode, ("soft", "hard", "spectral"))
        flag("normalize", self.normalize)
        checked_choice("axis", self.axis, ("rows", "sequence", "vocabulary"))

    def __call__(self, data: Sequence[Datum], logprobs: Any) -> tuple[Any, dict[str, float]]:
        """The penalty, a scalar of the library of ``logprobs``, and metrics."""
        tensors = as_tensors(logprobs)
        xp = library_of(tensors)
        rows = self._matrix(xp, tensors)
        if self.normalize:
            rows = rows / _at_least(xp, _norm(xp, rows, axis=-1))[..., None]
        gram = rows @ rows.T
        count = int(rows.shape[0])
        identity = like(tensors[0], "identity", [[float(i == j) for j in range(count)] for i in range(count)])
        off_diagonal = xp.sum((gram * (1.0 - identity)) ** 2)
        if self.mode == "hard":
            value = xp.sum((gram - identity) ** 2)
        elif self.mode == "spectral":
            value = (xp.sum(gram * identity) - count) ** 2 + off_diagonal
        else:
            value = off_diagonal
        return value, {"orthogonality": number_of(value)}

    def _matrix(self, xp: Any, tensors: list[Any]) -> Any:
        shapes = {tuple(tensor.shape) for tensor in tensors}
        if len(shapes) > 1:
            problem = f"has tensors of different shapes, such as {' and '.join(map(str, sorted(shapes)[:2]))}"
            raise InvalidInput("logprobs", problem, "Orthogonality needs data of one length")
        tensor = tensors[0] if len(tensors) == 1 else xp.stack(tensors)
        if len(tuple(tensor.shape)) < 2:
            tensor = tensor.reshape((1, -1))
        if self.axis == "sequence" and len(tuple(tensor.shape)) > 2:
            return xp.stack([tensor[:, place].reshape(-1) for place in range(int(tensor.shape[1]))])
        rows = tensor.reshape((-1, int(tensor.shape[-1])))
        return rows.T if self.axis == "vocabulary" else rows


class GradientPenalty(msgspec.Struct, frozen=True, kw_only=True):
    """Keeps the gradient of ``loss_fn(logprobs)`` at a norm: (its norm - ``target_norm``)².

    ``loss_fn`` takes logprobs as they are given and returns a scalar, computed with autograd.numpy or torch. In
    ``mode`` "output" its gradient is taken at the logprobs; in "interpolated" at a point between them and those of
    the loss input ``reference_field``, drawn from ``rng``, which this mode needs. Raises InvalidInput, and
    GradientUnavailable where loss_fn has no gradient to be seen. Metrics: ``gradient_norm``.
    """

    loss_fn: Callable[[Any], Any]
    mode: Literal["output", "interpolated"] = "output"
    target_norm: float = 1.0
    reference_field: str = "reference_logprobs"
    rng: random.Random | None = None

    def __post_init__(self) -> None:
        given: Any = self.loss_fn
        if not callable(given):
            raise InvalidInput("loss_fn", "can't be called", "Give a function of the logprobs")
        checked_choice("mode", self.mode, ("output", "interpolated"))
        if not math.isfinite(number("target_norm", self.target_norm, "Give a finite number")):
            raise InvalidInput("target_norm", f"{self.target_norm} is not finite", "Give a finite number")
        text("reference_field", self.reference_field, "Give the name of a loss input")
        if self.mode == "interpolated" and self.rng is None:
            raise InvalidInput("rng", "is missing", "Give a random.Random: the point between is drawn from it")

    def __call__(self, data: Sequence[Datum], logprobs: Any) -> tuple[Any, dict[str, float]]:
        """The penalty, a scalar of the library of ``logprobs``, and metrics."""
        tensors = as_tensors(logprobs)
        if self.rng is not None and self.mode == "interpolated":
            share = self.rng.random()
            between = references(data, tensors, field=self.reference_field)
            tensors = [share * x + (1 - share) * y for x, y in zip(tensors, between, strict=True)]
        gradients = slopes(lambda leaves: self.loss_fn(regrouped(logprobs, leaves)), tensors)
        xp = library_of(gradients)
        flat = xp.concatenate([each.reshape(-1) for each in gradients])
        norm = _norm(xp, flat, axis=-1)
        return (norm - self.target_norm) ** 2, {"gradient_norm": number_of(norm)}


def _norm(xp: Any, tensor: Any, axis: int) -> Any:
    # the root has no slope at 0: there, 0 is taken
    squares = xp.sum(tensor**2, axis=axis)
    positive = plain(squares) > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, squares, 1.0)), 0.0)


def _at_least(xp: Any, norm: Any) -> Any:
    return xp.where(plain(norm) > _SMALLEST_NORM, norm, _SMALLEST_NORM)


def _cosine_distance(xp: Any, a: Any, b: Any) -> Any:
    a, b = a.reshape(-1), b.reshape(-1)
    norms = _at_least(xp, _norm(xp, a, axis=-1)) * _at_least(xp, _norm(xp, b, axis=-1))
    return 1.0 - xp.sum(a * b) / norms
