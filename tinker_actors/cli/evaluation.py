"""How many held-out words a model translates exactly."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar, cast

import msgspec
import trio

from tinker_actors.cli.piglatin import pig_latin
from tinker_actors.cli.task import Task
from tinker_actors.errors import TinkerError
from tinker_actors.types import ModelInput, SampleResponse, SamplingParams

__all__ = ["Answer", "Evaluation", "Sampling", "all_of", "evaluate"]

T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE: Final = 32


class Sampling(Protocol):
    """The part of a sampling client that is needed here."""

    async def sample(
        self, prompt: ModelInput, num_samples: int = 1, sampling_params: SamplingParams | None = None
    ) -> SampleResponse: ...


class Answer(msgspec.Struct, frozen=True):
    """What a model made of ``word``."""

    word: str
    given: str

    @property
    def right(self) -> bool:
        """True when it is the translation, letter by letter."""
        return self.given == pig_latin(self.word)


class Evaluation(msgspec.Struct, frozen=True):
    """The answers to all words, in order."""

    answers: tuple[Answer, ...]

    @property
    def accuracy(self) -> float:
        """The share of right answers, from 0 to 1."""
        return sum(answer.right for answer in self.answers) / len(self.answers)


async def evaluate(
    client: Sampling, task: Task, words: Sequence[str], answered: Callable[[], None] | None = None
) -> Evaluation:
    """Ask for every word, several at once, taking the likeliest token each time. Raises the first error.

    ``answered`` is called after each answer.
    """

    async def ask(word: str) -> Answer:
        response = await client.sample(task.question(word), 1, task.sampling)
        if answered is not None:
            answered()
        return Answer(word, task.reply(response.sequences[0].tokens.tolist()))

    return Evaluation(tuple(await all_of(ask, words, _AT_ONCE)))


async def all_of(work: Callable[[T], Awaitable[R]], items: Sequence[T], at_once: int) -> list[R]:
    """The results of ``work`` on each item, in order, ``at_once`` under way; raises the first TinkerError."""
    results: list[R | None] = [None] * len(items)
    failures: list[TinkerError] = []
    waiting = iter(enumerate(items))

    async with trio.open_nursery() as nursery:

        async def worker() -> None:
            for index, item in waiting:
                try:
                    results[index] = await work(item)
                except TinkerError as error:
                    failures.append(error)
                    nursery.cancel_scope.cancel(reason="one of them failed")

        for _ in range(min(at_once, len(items))):
            nursery.start_soon(worker)
    if failures:
        raise failures[0]
    return cast("list[R]", results)
