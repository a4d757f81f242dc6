"""Regularizers that keep numbers small: L1, L2 and both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from tinker_actors.checks import number, text
from tinker_actors.errors import InvalidInput
from tinker_actors.regularizers.arrays import library_of, number_of
from tinker_actors.regularizers.targets import Reduction, checked_choice, reduced, target_of
from tinker_actors.types import Datum

__all__ = ["ElasticNet", "L1", "L2"]


class L1(msgspec.Struct, frozen=True, kw_only=True):
    """``strength`` times the sum (or mean) of absolute values: many of them become 0.

    ``target`` is "logprobs", "probs" (their exp) or a field of the data. The gradient is strength times sign(x), 0 at
    0. Raises InvalidInput. Metrics: ``l1_raw`` (without the strength) and ``l1_mean``.
    """

    target: str = "logprobs"
    reduction: Reduction = "sum"
    strength: float = 1.0

    def __post_init__(self) -> None:
        _check(self.target, self.reduction, self.strength)

    def __call__(self, data: Sequence[Datum], logprobs: Any) -> tuple[Any, dict[str, float]]:
        """The penalty, a scalar of the library of ``logprobs``, and metrics."""
        x = target_of(self.target, data, logprobs)
        sizes = [library_of(x).abs(each) for each in x]
        raw = reduced(sizes, self.reduction)
        return self.strength * raw, {"l1_raw": number_of(raw), "l1_mean": number_of(reduced(sizes, "mean"))}


class L2(msgspec.Struct, frozen=True, kw_only=True):
    """``strength`` times the sum (or mean) of squares: all numbers stay small.

    ``center`` is subtracted first: None, a number, or "mean" for that of all numbers. What is beyond ``clip`` then
    counts as if it were at it, and has no gradient. Raises InvalidInput. Metrics: ``l2_raw`` (without the strength),
    ``l2_mean`` (of the squares as they came) and, where there is one, ``center``.
    """

    target: str = "logprobs"
    reduction: Reduction = "sum"
    strength: float = 1.0
    clip: float | None = None
    center: float | Literal["mean"] | None = None

    def __post_init__(self) -> None:
        _check(self.target, self.reduction, self.strength)
        if self.clip is not None and not number("clip", self.clip, "Give a positive number") > 0:
            raise InvalidInput("clip", f"{self.clip} is not positive", "Give a positive number, or None")
        if self.center not in (None, "mean") and not math.isfinite(number("center", self.center, _CENTER)):
            raise InvalidInput("center", f"{self.center} is not finite", _CENTER)

    def __call__(self, data: Sequence[Datum], logprobs: Any) -> tuple[Any, dict[str, float]]:
        """The penalty, a scalar of the library of ``logprobs``, and metrics."""
        x = target_of(self.target, data, logprobs)
        metrics = {"l2_mean": number_of(reduced([each**2 for each in x], "mean"))}
        y = x
        if self.center is not None:
            center = reduced(x, "mean") if self.center == "mean" else self.center
            metrics["center"] = number_of(center)
            y = [each - center for each in x]
        if self.clip is not None:
            xp = library_of(y)
            y = [xp.clip(each, -self.clip, self.clip) for each in y]
        raw = reduced([each**2 for each in y], self.reduction)
        return self.strength * raw, {"l2_raw": number_of(raw), **metrics}


class ElasticNet(msgspec.Struct, frozen=True, kw_only=True):
    """``strength`` times a mix of L1 (a share of ``l1_ratio``) and L2 (the rest).

    Raises InvalidInput. Metrics: ``elastic_net`` (the penalty), ``l1_ratio``, and both parts before they are mixed,
    ``l1_raw`` and ``l2_raw``.
    """

    target: str = "logprobs"
    reduction: Reduction = "sum"
    strength: float = 1.0
    l1_ratio: float = 0.5

    def __post_init__(self) -> None:
        _check(self.target, self.reduction, self.strength)
        if not 0 <= number("l1_ratio", self.l1_ratio, _RATIO) <= 1:
            raise InvalidInput("l1_ratio", f"{self.l1_ratio} is out of range", _RATIO)

    def __call__(self, data: Sequence[Datum], logprobs: Any) -> tuple[Any, dict[str, float]]:
        """The penalty, a scalar of the library of ``logprobs``, and metrics."""
        x = target_of(self.target, data, logprobs)
        first = reduced([library_of(x).abs(each) for each in x], self.reduction)
        second = reduced([each**2 for each in x], self.reduction)
        mixed = self.strength * (self.l1_ratio * first + (1 - self.l1_ratio) * second)
        return mixed, {
            "elastic_net": number_of(mixed),
            "l1_ratio": float(self.l1_ratio),
            "l1_raw": number_of(first),
            "l2_raw": number_of(second),
        }


_CENTER = 'Give a finite number, "mean" or None'
_RATIO = "Give a number from 0 (L2 alone) to 1 (L1 alone)"


def _check(target: object, reduction: object, strength: object) -> None:
    text("target", target, 'Give "logprobs", "probs" or the name of a loss input')
    checked_choice("reduction", reduction, ("sum", "mean"))
    if not math.isfinite(number("strength", strength, "Give a finite number")):
        raise InvalidInput("strength", f"{strength} is not finite", "Give a finite number")
