"""How long to wait before a restart."""

from __future__ import annotations

import math
import random

import msgspec

from supervision.errors import InvalidSpec
from supervision.quantities import number

__all__ = ["Backoff"]


class Backoff(msgspec.Struct, frozen=True):
    """Exponential backoff with subtractive jitter; all times in seconds.

    The n-th restart in a row (n = 1, 2, ...) waits `base * (1 - jitter * u)`, with u uniform in [0, 1) and
    `base = min(maximum, initial * factor ** (n - 1))`. An incarnation that ran for `reset_after` starts the count
    anew. Raises InvalidSpec on values that make no sense.
    """

    initial: float = 0.1
    factor: float = 2.0
    maximum: float = 30.0
    jitter: float = 0.2
    reset_after: float = 30.0

    def __post_init__(self) -> None:
        if not (0 <= number(self.initial) <= number(self.maximum) < math.inf):
            raise InvalidSpec(
                f"Backoff: need 0 <= initial <= maximum < inf, got initial={self.initial}, maximum={self.maximum}"
            )
        if not 1 <= number(self.factor) < math.inf:
            raise InvalidSpec(f"Backoff: factor must be at least 1 and finite, got {self.factor}")
        if not 0 <= number(self.jitter) <= 1:
            raise InvalidSpec(f"Backoff: jitter must lie in [0, 1], got {self.jitter}")
        if not number(self.reset_after) >= 0:
            raise InvalidSpec(f"Backoff: reset_after must not be negative, got {self.reset_after}")

    def delay(self, attempt: int, generator: random.Random) -> float:
        """Seconds to wait before restart number `attempt` (from 1) of the present row."""
        # An exponent past ~1000 would overflow a float long after the maximum has been reached.
        base = min(self.maximum, self.initial * self.factor ** min(attempt - 1, 64))
        return base * (1.0 - self.jitter * generator.random())
