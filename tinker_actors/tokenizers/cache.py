"""Tokenizers that have been loaded: each once, however many ask for it, and not more than a few at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, final

import trio

from tinker_actors.checks import integer
from tinker_actors.errors import InvalidInput
from tinker_actors.ports import Offload

if TYPE_CHECKING:
    from tinker_actors.tokenizers.tokenizer import Tokenizer

__all__ = ["TokenizerCache"]

_SIZE = 8


@final
class _Flight:
    """One loading, for all who wait for it."""

    def __init__(self) -> None:
        self.landed = trio.Event()
        self.error: InvalidInput | None = None


@final
class TokenizerCache:
    """The ``size`` tokenizers that were asked for last, by name. Belongs to one run of trio.

    Who asks for one that is being loaded waits for that; where it can't be loaded, all who waited get the error, and
    the next one who asks tries anew.
    """

    def __init__(self, offload: Offload, *, size: int = _SIZE) -> None:
        self._offload = offload
        self._size = integer("size", size, "Keep at least 1", low=1)
        self._loaded: OrderedDict[str, Tokenizer] = OrderedDict()
        self._flights: dict[str, _Flight] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What is kept, the one that was asked for last at the end."""
        return tuple(self._loaded)

    async def get(self, name: str, load: Callable[[], Tokenizer]) -> Tokenizer:
        """The tokenizer ``name``, from ``load`` (which may block) where it is not kept. Raises its InvalidInput."""
        while True:
            if (found := self._loaded.get(name)) is not None:
                self._loaded.move_to_end(name)
                await trio.lowlevel.checkpoint()
                return found
            flight = self._flights.get(name)
            if flight is None:
                return await self._load(name, load)
            await flight.landed.wait()
            if flight.error is not None:
                error = flight.error
                raise type(error)(error.field, error.problem, error.cure) from error.__cause__
            # loaded, or given up by who was loading it

    async def _load(self, name: str, load: Callable[[], Tokenizer]) -> Tokenizer:
        flight = self._flights[name] = _Flight()
        try:
            tokenizer = await self._offload.run(load)
        except InvalidInput as error:
            flight.error = error
            raise
        finally:
            del self._flights[name]
            flight.landed.set()
        self._loaded[name] = tokenizer
        while len(self._loaded) > self._size:
            self._loaded.popitem(last=False)
        return tokenizer
