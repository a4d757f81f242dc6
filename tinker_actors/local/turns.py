"""Who computes next: models and samplers that have work take turns, owner by owner.

A turn is one operation of a model, one batch of a sampler's samples, or one token of a stream. Of the owners with
work the one served longest ago is next, and of its models and samplers the one that waits longest: whoever has a
thousand operations waiting delays the others by one turn each time, not by a thousand.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import final

import trio

from tinker_actors.local.futures import Progress
from tinker_actors.local.owners import Owner

__all__ = ["Turns"]


@final
class _Place:
    __slots__ = ("granted", "name", "owner")

    def __init__(self, owner: Owner, name: str) -> None:
        self.owner = owner
        self.name = name
        self.granted = trio.Event()


@final
class Turns:
    """One turn at a time. ``per_second`` bounds the turns of one owner in a second; None leaves them unbounded."""

    def __init__(self, per_second: float | None) -> None:
        self._pause = 0.0 if per_second is None else 1.0 / per_second
        self._per_second = per_second
        self._waiting: dict[Owner, OrderedDict[str, _Place]] = {}
        self._ready_at: dict[Owner, float] = {}
        self._served: dict[Owner, int] = {}
        self._count = 0
        self._running: _Place | None = None

    @asynccontextmanager
    async def turn(self, owner: Owner, name: str) -> AsyncGenerator[None]:
        """Wait for the turn of the owner's model or sampler ``name``, which waits for one at a time, and keep it."""
        place = _Place(owner, name)
        places = self._waiting.setdefault(owner, OrderedDict())
        assert name not in places, f"{name} waits for its turn already"
        places[name] = place
        try:
            self._grant()
            while not place.granted.is_set():
                with trio.move_on_at(self._ready(owner) or math.inf):
                    await place.granted.wait()
                self._grant()
            yield
        finally:
            if self._running is place:
                self._running = None
            else:
                self._withdraw(place)
            self._grant()

    def progress(self, owner: Owner, name: str) -> Progress | None:
        """Why the owner's model or sampler waits for its turn; None when it does not wait."""
        places = self._waiting.get(owner)
        if places is None or name not in places:
            return None
        if self._ready(owner) is not None:
            limit = f"max_turns_per_second is {self._per_second:g} for one owner"
            return Progress("paused_rate_limit", f"waits for its turn: {limit}")
        others = sum(map(len, self._waiting.values())) - 1 + (self._running is not None)
        return Progress("paused_capacity", f"waits for its turn: {others} other(s) have work")

    def _ready(self, owner: Owner) -> float | None:
        """When the owner may take a turn again; None for now."""
        at = self._ready_at.get(owner)
        return at if at is not None and at > trio.current_time() else None

    def _grant(self) -> None:
        if self._running is not None:
            return
        ready = [owner for owner in self._waiting if self._ready(owner) is None]
        if not ready:
            return
        owner = min(ready, key=lambda owner: self._served.get(owner, 0))
        place = next(iter(self._waiting[owner].values()))
        self._withdraw(place)
        self._count += 1
        self._served[owner] = self._count
        if self._pause:
            self._ready_at[owner] = trio.current_time() + self._pause
        self._running = place
        place.granted.set()

    def _withdraw(self, place: _Place) -> None:
        places = self._waiting[place.owner]
        del places[place.name]
        if not places:
            del self._waiting[place.owner]
