"""A queue on the place of an actor that works it off. It outlives the actor's incarnations."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar, final

import trio

from tinker_actors.local.futures import Progress

__all__ = ["WorkQueue"]

T = TypeVar("T")


@final
class WorkQueue(Generic[T]):
    """First come, first served. ``noun`` names an item in what polls are told."""

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._waiting: deque[tuple[int, T]] = deque()
        self._pushed = 0
        self._arrived = trio.Event()
        self.in_hand: tuple[T, ...] = ()
        """What is being worked on. What a new incarnation finds there, its predecessor crashed in."""

    def __len__(self) -> int:
        return len(self._waiting)

    def items(self) -> Iterator[T]:
        """What waits and what is in hand."""
        yield from self.in_hand
        for _, item in self._waiting:
            yield item

    def count(self, wanted: Callable[[T], bool]) -> int:
        """How many of those that wait are ``wanted``."""
        return sum(wanted(item) for _, item in self._waiting)

    def push(self, item: T) -> Callable[[], Progress]:
        """Add ``item`` at the end; the value tells how far it has come."""
        self._pushed += 1
        ticket = self._pushed
        self._waiting.append((ticket, item))
        self._arrived.set()
        return lambda: self._progress(ticket)

    async def take(self) -> T:
        """Wait for the next item; it is in hand until ``put_away``."""
        return (await self.take_alike(lambda _first, _next: False, most=1))[0]

    async def take_alike(self, alike: Callable[[T, T], bool], *, most: int) -> tuple[T, ...]:
        """Wait for the next item, and take those right behind it that are ``alike``; ``most`` in all."""
        assert not self.in_hand
        while not self._waiting:
            self._arrived = trio.Event()
            await self._arrived.wait()
        first = self._waiting.popleft()[1]
        taken = [first]
        while self._waiting and len(taken) < most and alike(first, self._waiting[0][1]):
            taken.append(self._waiting.popleft()[1])
        self.in_hand = tuple(taken)
        return self.in_hand

    def put_away(self) -> None:
        """What is in hand is done with."""
        self.in_hand = ()

    def withdraw(self, unwanted: Callable[[T], bool]) -> tuple[T, ...]:
        """Take back what waits and is ``unwanted``."""
        withdrawn = tuple(item for _, item in self._waiting if unwanted(item))
        self._waiting = deque(entry for entry in self._waiting if not unwanted(entry[1]))
        return withdrawn

    def _progress(self, ticket: int) -> Progress:
        if not self._waiting or ticket < self._waiting[0][0]:
            return Progress("active", "the server works on it")
        # what was withdrawn in between still counts: an estimate, from above
        before = ticket - self._waiting[0][0] + len(self.in_hand)
        return Progress("active", f"{before} {self._noun}(s) before it" if before else "it is next")
