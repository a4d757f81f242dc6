"""The work that both clients are measured on, as plain lists: each client makes its own values of them."""

from __future__ import annotations

__all__ = [
    "DATUMS",
    "PROMPT_TOKENS",
    "SAMPLES",
    "STEPS",
    "TOKENS",
    "WARM_UP_SAMPLES",
    "prompts",
    "sequences",
]

SAMPLES = 1000
WARM_UP_SAMPLES = 20
PROMPT_TOKENS = 512
DATUMS = 128
TOKENS = 4096
STEPS = 5


def prompts(count: int) -> list[list[int]]:
    """``count`` prompts of PROMPT_TOKENS token ids, all different."""
    return [[(7 * i + 31 * number) % 50_000 for i in range(PROMPT_TOKENS)] for number in range(count)]


def sequences() -> list[tuple[list[int], list[int], list[float]]]:
    """DATUMS examples: input tokens, target tokens and weights, each of TOKENS entries."""
    examples: list[tuple[list[int], list[int], list[float]]] = []
    for number in range(DATUMS):
        ids = [(11 * i + 17 * number) % 50_000 for i in range(TOKENS + 1)]
        examples.append((ids[:-1], ids[1:], [1.0] * TOKENS))
    return examples
