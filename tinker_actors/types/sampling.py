"""Parameters and results of sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from tinker_actors.errors import InvalidInput
from tinker_actors.types.tensor import FloatArray, TokenArray

__all__ = ["SampledSequence", "SampleResponse", "SamplingParams", "StopReason", "TopkLogprobs"]

StopReason: TypeAlias = Literal["stop", "length"]
TopkLogprobs: TypeAlias = tuple[tuple[tuple[int, float], ...] | None, ...]
"""For each position the (token id, log-probability) pairs, best first; None where nothing was computed."""


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How to sample.

    ``max_tokens`` None means up to the context. ``stop`` is a string, strings, or token ids; None stops at
    the end-of-text token only and an empty list never stops. ``temperature`` 0 takes the likeliest token.
    ``top_k`` -1 is off.
    """

    max_tokens: int | None = None
    seed: int | None = None
    stop: str | Sequence[str] | Sequence[int] | None = None
    temperature: float = 1.0
    top_k: int = -1
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise InvalidInput("max_tokens", f"{self.max_tokens} is not positive", "Use at least 1, or None")
        if not math.isfinite(self.temperature) or self.temperature < 0:
            raise InvalidInput("temperature", f"{self.temperature} is out of range", "Use a number from 0")
        if not (0.0 < self.top_p <= 1.0):
            raise InvalidInput("top_p", f"{self.top_p} is out of range", "Use a number in (0, 1]")
        if self.top_k != -1 and self.top_k < 1:
            raise InvalidInput("top_k", f"{self.top_k} is out of range", "Use at least 1, or -1 for no limit")
        if self.stop is not None and not isinstance(self.stop, str):
            kinds = {type(item) for item in self.stop}
            if kinds not in (set(), {str}, {int}):
                raise InvalidInput("stop", "mixes types", "Give only strings or only token ids")
            msgspec.structs.force_setattr(self, "stop", tuple(self.stop))


class SampledSequence(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One continuation: ``tokens`` int32 and ``logprobs`` float32 of one length (None if absent)."""

    stop_reason: StopReason
    tokens: TokenArray
    logprobs: FloatArray | None = None
    topk_logprobs: TopkLogprobs | None = None
    sequence_id: str | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SampledSequence):
            return NotImplemented
        return (
            self.stop_reason == other.stop_reason
            and self.sequence_id == other.sequence_id
            and self.topk_logprobs == other.topk_logprobs
            and self.tokens.tobytes() == other.tokens.tobytes()
            and _bytes(self.logprobs) == _bytes(other.logprobs)
        )

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # holds arrays: comparable, not hashable


class SampleResponse(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The result of one sample call: ``num_samples`` sequences, and for the prompt what was asked for.

    ``prompt_logprobs`` has one entry for each prompt token, None for the first one.
    """

    sequences: tuple[SampledSequence, ...]
    prompt_logprobs: tuple[float | None, ...] | None = None
    topk_prompt_logprobs: TopkLogprobs | None = None
    prompt_cache_hit_tokens: int = 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SampleResponse):
            return NotImplemented
        return (
            self.sequences == other.sequences
            and self.prompt_logprobs == other.prompt_logprobs
            and self.topk_prompt_logprobs == other.topk_prompt_logprobs
            and self.prompt_cache_hit_tokens == other.prompt_cache_hit_tokens
        )

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # holds arrays: comparable, not hashable


def _bytes(array: FloatArray | None) -> bytes | None:
    return None if array is None else array.tobytes()
