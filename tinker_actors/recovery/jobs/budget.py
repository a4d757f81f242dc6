"""Budget: how much a job may use before it stops."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tinker_actors.checks import integer, number
from tinker_actors.errors import InvalidInput
from tinker_actors.metrics import ModelUsage, Price, cost_of

__all__ = ["Budget"]


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """The job stops at the end of the step in which it has used ``tokens`` or has cost ``cost`` by ``prices``.

    Tokens are all that were trained on, read in prompts and sampled and have had a result, those of earlier processes
    included, also of steps that are done again: up to the last step that such a process has ended. Raises
    InvalidInput for values that make no sense.
    """

    tokens: int | None = None
    cost: float | None = None
    prices: Mapping[str, Price] = {}

    def __post_init__(self) -> None:
        if self.tokens is not None:
            integer("budget.tokens", self.tokens, "Give a number of tokens, or None", low=1)
        if self.cost is not None:
            cure = "Give an amount above 0 in the currency of the prices, or None"
            if not 0.0 < number("budget.cost", self.cost, cure) < float("inf"):
                raise InvalidInput("budget.cost", f"{self.cost} is no amount", cure)
            if not self.prices:
                raise InvalidInput("budget.prices", "is empty, and a cost is given", "Give a Price by base model")
        cost_of({}, self.prices)

    def require_price(self, base_model: str) -> None:
        """Raise InvalidInput where the cost of ``base_model`` could not be told."""
        if self.cost is not None:
            cost_of({base_model: ModelUsage()}, self.prices)

    def spent(self, usage: Mapping[str, ModelUsage]) -> str | None:
        """Why there is nothing left of it; None when there is."""
        if self.tokens is not None:
            used = sum(one.trained + one.prompted + one.sampled for one in usage.values())
            if used >= self.tokens:
                return f"its budget of {self.tokens:,} tokens is used up ({used:,})"
        if self.cost is not None:
            cost = cost_of(usage, self.prices)
            if cost >= self.cost:
                return f"its budget of {self.cost:g} is used up ({cost:.4g})"
        return None
