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
    """First come, first served. ``noun`` names an item in what polls are told.

    ``paused`` says why the whole queue waits, if it does.
    """

    def __init__(self, noun: str, paused: Callable[[], Progress | None]) -> None:
        self._noun = noun
        self._paused = paused
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

    def push(self, item: T) -> Callable[[], Progress]:
        """Add ``item`` at the end; the value tells how far it has come."""
        self._pushed += 1
        ticket = self._pushed
        self._waiting.append((ticket, item))
        self._arrived.set()
        return lambda: self._progress(ticket)

    async def wait(self) -> None:
        """Wait until something waits to be taken."""
        while not self._waiting:
            self._arrived = trio.Event()
            await self._arrived.wait()

    def take(self, most: int = 1) -> tuple[T, ...]:
        """The next items, at most ``most``; they are in hand until ``put_away``. None when they were withdrawn."""
        assert not self.in_hand
        self.in_hand = tuple(self._waiting.popleft()[1] for _ in range(min(most, len(self._waiting))))
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
        said = f"{before} {self._noun}(s) before it" if before else "it is next"
        paused = self._paused()
        if paused is None:
            return Progress("active", said)
        return Progress(paused.queue_state, f"{said}; {paused.reason}")
