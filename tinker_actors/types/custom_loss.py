"""Losses of a user's own: uploaded as a graph, or computed at the client with regularizers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from tinker_actors.checks import flag, number, text
from tinker_actors.errors import InvalidInput
from tinker_actors.types.checked import Checked

__all__ = [
    "BaseLossOutput",
    "CreateCustomLossRequest",
    "CreateCustomLossResponse",
    "CustomLossInput",
    "CustomLossOutput",
    "RegularizerOutput",
    "RegularizerSpec",
]


class CustomLossInput(Checked, frozen=True, kw_only=True):
    """A loss input that a custom loss takes, by name and number of dimensions."""

    name: str
    rank: Literal[0, 1, 2]


class CreateCustomLossRequest(Checked, frozen=True, kw_only=True):
    """POST /create_custom_loss."""

    session_id: str
    custom_loss_seq_id: int
    name: str
    inputs: tuple[CustomLossInput, ...]
    graph: Mapping[str, Any]


class CreateCustomLossResponse(Checked, frozen=True, kw_only=True):
    """A custom loss was uploaded; ``loss_id`` goes into the configuration of a loss named "custom"."""

    loss_id: str


class RegularizerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A term that a custom loss adds: ``fn(data, logprobs)``, ``weight`` times its value, under ``name``."""

    fn: Callable[[Any, Any], Any]
    weight: float
    name: str
    is_async: bool = False

    def __post_init__(self) -> None:
        given: Any = self.fn
        if not callable(given) or not _takes_two(given):
            raise InvalidInput("RegularizerSpec.fn", "is no function of two arguments", "Give fn(data, logprobs)")
        weight = number("RegularizerSpec.weight", self.weight, "Give a finite number from 0")
        if not math.isfinite(weight) or weight < 0:
            raise InvalidInput("RegularizerSpec.weight", f"{weight} is out of range", "Give a finite number from 0")
        text("RegularizerSpec.name", self.name, "Give a name for its metrics")
        flag("RegularizerSpec.is_async", self.is_async)
        msgspec.structs.force_setattr(self, "weight", weight)


class RegularizerOutput(Checked, frozen=True, kw_only=True):
    """What a regularizer gave; gradient norms where they were asked for."""

    name: str
    value: float
    weight: float
    grad_norm: float | None = None
    custom: Mapping[str, float] = {}

    @property
    def contribution(self) -> float:
        """What it adds to the loss: weight times value."""
        return self.weight * self.value

    @property
    def grad_norm_weighted(self) -> float | None:
        """The norm of what it adds to the gradient."""
        return None if self.grad_norm is None else self.weight * self.grad_norm


class BaseLossOutput(Checked, frozen=True, kw_only=True):
    """What the loss itself gave, before regularizers."""

    value: float
    grad_norm: float | None = None
    custom: Mapping[str, float] = {}


class CustomLossOutput(Checked, frozen=True, kw_only=True):
    """A custom loss and its parts."""

    base_loss: BaseLossOutput
    regularizers: Mapping[str, RegularizerOutput] = {}
    total_grad_norm: float | None = None

    @property
    def regularizer_total(self) -> float:
        """What all regularizers add."""
        return math.fsum(output.contribution for output in self.regularizers.values())

    @property
    def loss_total(self) -> float:
        """The loss that was trained on."""
        return self.base_loss.value + self.regularizer_total


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # a builtin that does not say what it takes
        return True
    return True
