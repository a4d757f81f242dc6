"""An actor whose replies are wrong, and what nobody handles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supervision import (
    ActorRef,
    Call,
    Cast,
    handles,
)
from tests.supervision.world import Counter, Get, Log, system


class Unheard(Cast, frozen=True):
    """Nobody handles it."""


class Unasked(Call[int], frozen=True):
    """Nobody handles it."""


async def answers(ref: ActorRef) -> None:
    """The very incarnation that was there before."""
    assert ref.statistics().incarnation == 1
    assert isinstance(await ref.call(Get()), int)


class Size(Call[int], frozen=True):
    """Whatever `answer` makes of it."""


class Sizes(Size, frozen=True):
    """A subclass: its base's handler, its base's R."""


class Liar(Counter):
    """Answers Size with what it is told to."""

    def __init__(self, answer: Callable[[Liar], Any]) -> None:
        super().__init__()
        self.answer = answer

    @handles(Size)
    def size(self, message: Size) -> Any:
        return self.answer(self)


def strict(log: Log) -> Any:
    return system(log, strict_replies=True)


def lie(_: Liar) -> str:
    return "big"
