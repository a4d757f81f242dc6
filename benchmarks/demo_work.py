"""The demo's own work as values: its training batches and the prompts of its held-out words."""

from __future__ import annotations

from typing import Final

from tinker_actors.cli.piglatin import load_words
from tinker_actors.cli.task import Task, held_out_words, training_batches
from tinker_actors.local.engine import BASE_S
from tinker_actors.tokenizers import tokenizer_for
from tinker_actors.types import Datum, ModelInput

__all__ = ["RANK", "prompts", "training_data"]

RANK: Final = 16


def training_data(steps: int) -> list[list[Datum]]:
    """The data of the demo's first ``steps`` steps, 32 words each."""
    task = Task(tokenizer_for(BASE_S))
    return [task.batch(words) for words in training_batches(load_words(), steps=steps, seed=0)]


def prompts(count: int) -> list[ModelInput]:
    """What the model reads before it answers ``count`` held-out words."""
    task = Task(tokenizer_for(BASE_S))
    return [task.question(word) for word in held_out_words(load_words(), count)]
