"""What the programs of these tests train on, in a module that costs a process little."""

from __future__ import annotations

import random
from typing import Any

from tinker_actors.types import AdamParams, Datum, ModelInput

__all__ = ["BASE_MODEL", "STEP", "Deck", "example"]

BASE_MODEL = "tinker-actors/tiny"
STEP = AdamParams(learning_rate=1e-2)


def example(seed: int) -> Datum:
    """A random one for the tiny model."""
    rng = random.Random(seed)
    tokens = [rng.randrange(32) for _ in range(rng.randint(2, 7))]
    return Datum(
        ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:], "weights": [1.0] * (len(tokens) - 1)}
    )


class Deck:
    """The user's own data: a place in it, and an order that is drawn anew each time around."""

    def __init__(self, size: int) -> None:
        self.order = list(range(size))
        self.place = size

    def draw(self, rng: random.Random, count: int) -> list[int]:
        """The next ``count``."""
        drawn = []
        for _ in range(count):
            if self.place == len(self.order):
                rng.shuffle(self.order)
                self.place = 0
            drawn.append(self.order[self.place])
            self.place += 1
        return drawn

    def get_state(self) -> Any:
        """All of it."""
        return [self.order, self.place]

    def set_state(self, state: Any) -> None:
        """As it was."""
        self.order, self.place = list(state[0]), state[1]
