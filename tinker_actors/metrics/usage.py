"""Usage: tokens by base model, and what they cost by a table of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import msgspec

from tinker_actors.checks import number
from tinker_actors.errors import InvalidInput

__all__ = ["ModelUsage", "Price", "Usage", "cost_of"]

_MILLION = 1_000_000


class ModelUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one base model: trained on (forward_backward, forward), read in prompts, and sampled."""

    trained: int = 0
    prompted: int = 0
    sampled: int = 0


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a million tokens cost, in whatever currency. Raises InvalidInput for what is no price."""

    trained: float
    prompted: float
    sampled: float

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = number(f"Price.{name}", getattr(self, name), "Give the price of a million tokens")
            if not 0.0 <= value < float("inf"):
                raise InvalidInput(f"Price.{name}", f"{value} is no price", "Give the price of a million tokens")


@final
class Usage:
    """What results have come of, counted when they are there: what failed or was given up is not in it.

    What is added counts in ``parent``, too.
    """

    def __init__(self, parent: Usage | None = None) -> None:
        self._models: dict[str, ModelUsage] = {}
        self._parent = parent

    def add(self, base_model: str, *, trained: int = 0, prompted: int = 0, sampled: int = 0) -> None:
        """More tokens of ``base_model``."""
        if self._parent is not None:
            self._parent.add(base_model, trained=trained, prompted=prompted, sampled=sampled)
        known = self._models.get(base_model, ModelUsage())
        self._models[base_model] = ModelUsage(
            trained=known.trained + trained, prompted=known.prompted + prompted, sampled=known.sampled + sampled
        )

    def snapshot(self) -> dict[str, ModelUsage]:
        """By base model."""
        return dict(self._models)


def cost_of(usage: Mapping[str, ModelUsage], prices: Mapping[str, Price]) -> float:
    """What ``usage`` costs by ``prices``, both by base model. Raises InvalidInput for a model without a price."""
    if not isinstance(prices, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # no type checker at work
        raise InvalidInput("prices", f"is of type {type(prices).__name__}", "Give a dict of Price by base model")
    cost = 0.0
    for model, tokens in usage.items():
        price = prices.get(model)
        if price is None:
            raise InvalidInput("prices", f"has no price of {model!r}", f"Give prices[{model!r}] = Price(...)")
        if not isinstance(price, Price):  # pyright: ignore[reportUnnecessaryIsInstance]  # as above
            problem = f"is of type {type(price).__name__}"
            raise InvalidInput(f"prices[{model!r}]", problem, "Give Price(trained=..., prompted=..., sampled=...)")
        amounts = (tokens.trained * price.trained, tokens.prompted * price.prompted, tokens.sampled * price.sampled)
        cost += sum(amounts) / _MILLION
    return cost
