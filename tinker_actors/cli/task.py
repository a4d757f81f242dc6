"""Pig Latin as training data: which words each step sees, what the model reads and is to answer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, Protocol, final

from tinker_actors.cli.piglatin import WordSplit, answer, prompt
from tinker_actors.types import Datum, ModelInput, SamplingParams

__all__ = ["BATCH", "Encoder", "Task", "held_out_words", "learning_rate", "training_batches"]

BATCH: Final = 32
_PEAK: Final = 3e-3
_WARM_UP: Final = 10
_LONGEST_ANSWER: Final = 16  # ten letters, "way" and the newline, with room for a wrong turn


class Encoder(Protocol):
    """The part of a tokenizer that is needed here."""

    def encode(self, text: str) -> list[int]: ...
    def decode(self, tokens: list[int]) -> str: ...
    def token_to_id(self, token: str) -> int | None: ...


@final
class Task:
    """Words to values and back, in one model's tokens."""

    def __init__(self, tokenizer: Encoder) -> None:
        self._tokenizer = tokenizer
        start = tokenizer.token_to_id("<bos>")
        self._start = [] if start is None else [start]
        self.sampling = SamplingParams(max_tokens=_LONGEST_ANSWER, temperature=0.0, stop="\n", seed=0)

    def question(self, word: str) -> ModelInput:
        """What the model reads before it answers."""
        return ModelInput.from_ints(self._question(word))

    def reply(self, tokens: Sequence[int]) -> str:
        """The answer that ``tokens`` spell, up to the end of the line."""
        return self._tokenizer.decode(list(tokens)).partition("\n")[0].strip()

    def batch(self, words: Sequence[str]) -> list[Datum]:
        """One example for each word.

        Loss counts on the answers' tokens alone. cross_entropy is a sum, so the weights of a batch add up to 1 and
        its loss is the mean over those tokens.
        """
        questions = [self._question(word) for word in words]
        answers = [self._tokenizer.encode(answer(word)) for word in words]
        weight = 1.0 / sum(map(len, answers))
        return [_example(question, reply, weight) for question, reply in zip(questions, answers, strict=True)]

    def _question(self, word: str) -> list[int]:
        return [*self._start, *self._tokenizer.encode(prompt(word))]


def learning_rate(step: int, steps: int) -> float:
    """The rate of step 1, 2, ..., ``steps``: a warm-up of ten steps (fewer in short runs), then linear towards 0."""
    warm_up = min(_WARM_UP, steps // 3)
    if step <= warm_up:
        return _PEAK * step / warm_up
    return _PEAK * (steps - step + 1) / (steps - warm_up)


def training_batches(words: WordSplit, *, steps: int, seed: int) -> list[list[str]]:
    """The words of each step, drawn from the training part alone."""
    draw = random.Random(seed)
    return [draw.sample(words.train, BATCH) for _ in range(steps)]


def held_out_words(words: WordSplit, count: int) -> list[str]:
    """The same ``count`` held-out words in every run, so that runs can be compared."""
    return random.Random("held out").sample(words.held_out, count)


def _example(question: list[int], reply: list[int], weight: float) -> Datum:
    tokens = question + reply
    weights = [0.0] * (len(question) - 1) + [weight] * len(reply)
    return Datum(ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:], "weights": weights})
