"""What a loss is: the inputs and settings that it has, and its terms for one datum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import msgspec

from tinker_actors.types.tensor import FloatArray

__all__ = ["Inputs", "Loss", "Objective", "Settings", "Terms"]

Inputs: TypeAlias = Mapping[str, FloatArray]
Settings: TypeAlias = Mapping[str, float]


class Terms(NamedTuple):
    """One datum's part of a loss.

    ``loss`` and ``slope``, its derivative by each target's log-probability, have one number for each target. Losses
    are sums of ``loss``, never means (WIRE 5.5). ``metrics`` are named "name:reduction", and are reduced over data.
    """

    loss: FloatArray
    slope: FloatArray
    metrics: Mapping[str, float]


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """One loss. It needs ``inputs`` besides the targets, takes ``optional`` ones, and has ``settings`` with defaults.

    ``many_targets``: a position may have several targets, [N, K]. ``sampled``: it needs the targets' provenance, and
    gets an input "sampled" that is 1 where a target was sampled. ``check`` raises InvalidInput, with an input's name
    as its field, for values that ``terms`` has no use for. ``ranks`` are those of a custom loss's inputs, which may
    be of any shape then, and beside which a datum may have any others; "logprobs" stands for the targets'.
    """

    inputs: tuple[str, ...]
    terms: Callable[[FloatArray, Inputs, Settings], Terms]
    optional: tuple[str, ...] = ()
    settings: Settings = {}
    many_targets: bool = False
    sampled: bool = False
    check: Callable[[Inputs, Settings], None] | None = None
    ranks: Mapping[str, int] | None = None


class Objective(NamedTuple):
    """A loss by its name, with the settings of one request."""

    name: str
    loss: Loss
    settings: Settings
