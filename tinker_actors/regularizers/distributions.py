"""Regularizers of distributions, whose log-probabilities lie along the last axis: Entropy and KLDivergence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np

from tinker_actors.checks import flag, number, text
from tinker_actors.errors import InvalidInput
from tinker_actors.regularizers.arrays import as_tensors, library_of, number_of, plain
from tinker_actors.regularizers.targets import RowReduction, checked_choice, reduced, references
from tinker_actors.types import Datum

__all__ = ["divergence", "Entropy", "KLDivergence"]

Direction: TypeAlias = Literal["forward", "reverse"]

_NEGLIGIBLE_LOGPROB = -50.0
_NEGLIGIBLE = 1e-10  # a probability
_LARGEST_LOG_RATIO = 100.0


class Entropy(msgspec.Struct, frozen=True, kw_only=True):
    """The entropy of each row of log-probabilities, -Σ p · log p: +H to minimise it, -H to maximise it.

    A row lies along the last axis, so of logprobs of shape [N] the whole sequence is one. With a ``temperature``
    other than 1 the row is divided by it and normalised again; ``normalize`` divides by log of the row's length.
    Terms whose logprob is -50 or less count as 0. ``reduction`` "none" gives one number for each row. Raises
    InvalidInput. Metrics: ``entropy``, ``entropy_maximized`` (0 or 1) and ``temperature``.
    """

    mode: Literal["minimize", "maximize"] = "minimize"
    reduction: RowReduction = "mean"
    normalize: bool = False
    temperature: float = 1.0

    def __post_init__(self) -> None:
        checked_choice("mode", self.mode, ("minimize", "maximize"))
        checked_choice("reduction", self.reduction, ("sum", "mean", "none"))
        flag("normalize", self.normalize)
        temperature = number("temperature", self.temperature, "Give a positive number")
        if not (math.isfinite(temperature) and temperature > 0):
            raise InvalidInput("temperature", f"{temperature} is out of range", "Give a positive number")

    def __call__(self, data: Sequence[Datum], logprobs: Any) -> tuple[Any, dict[str, float]]:
        """The entropy with its sign, a scalar of the library of ``logprobs``, and metrics."""
        tensors = as_tensors(logprobs)
        xp = library_of(tensors)
        rows = [self._rows(xp, tensor) for tensor in tensors]
        entropy = reduced(rows, self.reduction)
        maximized = self.mode == "maximize"
        metrics = {
            "entropy": number_of(_shown(rows, self.reduction)),
            "entropy_maximized": float(maximized),
            "temperature": float(self.temperature),
        }
        return (-entropy if maximized else entropy), metrics

    def _rows(self, xp: Any, tensor: Any) -> Any:
        tensor = _with_axis(tensor)
        if self.temperature != 1:
            tensor = _normalised(xp, tensor / self.temperature)
        counts = plain(tensor) > _NEGLIGIBLE_LOGPROB
        kept = xp.where(counts, tensor, 0.0)
        rows = -xp.sum(xp.where(counts, xp.exp(kept) * kept, 0.0), axis=-1)
        length = int(tensor.shape[-1])
        return rows / math.log(length) if self.normalize and length > 1 else rows


class KLDivergence(msgspec.Struct, frozen=True, kw_only=True):
    """How far the rows of log-probabilities are from reference ones: Σ p · (log p - log q) along the last axis.

    The reference is ``reference_logprobs`` (an array, or one for each datum), the loss input ``reference_field`` of
    each datum, or ``compute_reference(data)``, in this order. ``direction`` "reverse" swaps both; ``symmetric`` takes
    half the sum of both directions. Log-ratios are clipped to ±100, terms with a probability of 1e-10 or less are
    left out. Raises InvalidInput where there is no reference or one of another shape. Metrics: ``kl_divergence``,
    ``kl_max`` and ``kl_min`` of rows, ``kl_reverse`` and ``kl_symmetric`` (0 or 1).
    """

    reference_logprobs: Any = None
    reference_field: str | None = None
    compute_reference: Callable[[Sequence[Datum]], Any] | None = None
    reduction: RowReduction = "mean"
    direction: Direction = "forward"
    symmetric: bool = False

    def __post_init__(self) -> None:
        checked_choice("reduction", self.reduction, ("sum", "mean", "none"))
        checked_choice("direction", self.direction, ("forward", "reverse"))
        flag("symmetric", self.symmetric)
        if self.reference_field is not None:
            text("reference_field", self.reference_field, "Give the name of a loss input")
        if self.compute_reference is not None and not callable(self.compute_reference):
            raise InvalidInput("compute_reference", "can't be called", "Give a function of the data")
        if self.reference_logprobs is None and self.reference_field is None and self.compute_reference is None:
            cure = "Give reference_logprobs, reference_field or compute_reference"
            raise InvalidInput("KLDivergence", "has no reference", cure)

    def __call__(self, data: Sequence[Datum], logprobs: Any) -> tuple[Any, dict[str, float]]:
        """The divergence, a scalar of the library of ``logprobs``, and metrics."""
        tensors = as_tensors(logprobs)
        constants = references(
            data,
            tensors,
            given=self.reference_logprobs,
            field=self.reference_field,
            compute=self.compute_reference,
        )
        rows = [
            divergence(tensor, constant, self.direction, symmetric=self.symmetric)
            for tensor, constant in zip(tensors, constants, strict=True)
        ]
        total = reduced(rows, self.reduction)
        each = np.concatenate([np.asarray(plain(row)).reshape(-1) for row in rows])
        return total, {
            "kl_divergence": number_of(_shown(rows, self.reduction)),
            "kl_max": float(each.max()),
            "kl_min": float(each.min()),
            "kl_reverse": float(self.direction == "reverse"),
            "kl_symmetric": float(self.symmetric),
        }


def divergence(tensor: Any, reference: Any, direction: str = "forward", *, symmetric: bool = False) -> Any:
    """The KL divergence of each row of ``tensor`` from that of ``reference``."""
    xp = library_of([tensor, reference])
    p, q = _with_axis(tensor), _with_axis(reference)
    if symmetric:
        return 0.5 * (_one_way(xp, p, q) + _one_way(xp, q, p))
    return _one_way(xp, q, p) if direction == "reverse" else _one_way(xp, p, q)


def _one_way(xp: Any, p: Any, q: Any) -> Any:
    counts = plain(p) > math.log(_NEGLIGIBLE)
    p, q = xp.where(counts, p, 0.0), xp.where(counts, q, 0.0)
    ratios = xp.clip(p - q, -_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO)
    return xp.sum(xp.where(counts, xp.exp(p) * ratios, 0.0), axis=-1)


def _normalised(xp: Any, tensor: Any) -> Any:
    top = plain(tensor).max(-1)
    moved = tensor - getattr(top, "values", top)[..., None]  # torch gives the places, too
    return moved - xp.log(xp.sum(xp.exp(moved), axis=-1))[..., None]


def _with_axis(tensor: Any) -> Any:
    return tensor if tuple(tensor.shape) else tensor.reshape(1)


def _shown(rows: list[Any], reduction: str) -> Any:
    return reduced(rows, "mean" if reduction == "none" else reduction)
