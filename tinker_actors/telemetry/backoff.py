"""How long to wait before a batch is sent again."""

from __future__ import annotations

import math
import random

from tinker_actors.checks import integer, number
from tinker_actors.errors import InvalidInput

__all__ = ["BASE_DELAY", "LONGEST_DELAY", "delay"]

BASE_DELAY = 1.0
LONGEST_DELAY = 60.0
_CURE = "Give a finite number of seconds, 0 or more"


def delay(attempt: int, rng: random.Random, *, base: float = BASE_DELAY, longest: float = LONGEST_DELAY) -> float:
    """Seconds before try ``attempt + 1``: ``base`` doubled ``attempt`` times, at most ``longest``, and 1 to 10 %.

    Raises InvalidInput for negative numbers and for what is no finite time.
    """
    attempt = integer("attempt", attempt, "Count the tries from 0", low=0)
    for field, seconds in (("base", base), ("longest", longest)):
        if not 0.0 <= number(field, seconds, _CURE) < math.inf:
            raise InvalidInput(field, f"{seconds} is no time to wait", _CURE)
    # far above any doubling that could matter, and far below what overflows a float
    return min(base * 2.0 ** min(attempt, 64), longest) * rng.uniform(1.01, 1.1)
