"""The guard of a sampling client against weights that are too many updates old."""

from __future__ import annotations

import logging
from typing import Literal, TypeAlias, final, get_args

from tinker_actors.checks import integer
from tinker_actors.clients.sampler import Sampler
from tinker_actors.errors import InvalidInput, StaleSampler

__all__ = ["OnStale", "StalenessGuard"]

_log = logging.getLogger("tinker_actors.clients")

OnStale: TypeAlias = Literal["refuse", "warn"]


@final
class StalenessGuard:
    """Of the client ``name`` of ``sampler``. It allows anything until it is ``set``."""

    def __init__(self, sampler: Sampler, name: str) -> None:
        self._sampler = sampler
        self._name = name
        self._guard: tuple[int, OnStale] | None = None
        self._warn_above = 0

    def set(self, max_updates: int, on_stale: OnStale) -> None:
        """Allow weights that are ``max_updates`` old, and ``on_stale`` for older ones."""
        limit = integer("max_updates", max_updates, "Allow 0 or more updates", low=0)
        if on_stale not in get_args(OnStale):
            raise InvalidInput("on_stale", f"{on_stale!r} is none", 'Use "refuse" or "warn"')
        if self._sampler.shown is None:
            problem = f"can't be minded: no training client of this session has saved the weights of {self._name}"
            raise InvalidInput("staleness", problem, "Make the client by the training client that saves its weights")
        self._guard = (limit, on_stale)
        self._warn_above = limit

    def mind(self) -> None:
        """Before each sample. Raises StaleSampler, or warns."""
        shown = self._sampler.shown
        if self._guard is None or shown is None:
            return
        behind, (limit, on_stale) = shown.behind, self._guard
        if behind <= limit:
            self._warn_above = limit
            return
        text = (
            f"{self._name} has the weights of {shown.name}#{shown.op_no}, {behind} updates ago ({limit} are allowed)"
        )
        if on_stale == "refuse":
            raise StaleSampler(f"sample was not sent: {text}. Save the weights anew", operation=self._name)
        if behind > self._warn_above:
            self._warn_above = 2 * behind
            _log.warning("%s", text)
