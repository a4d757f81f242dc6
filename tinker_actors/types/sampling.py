"""Parameters and results of sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from tinker_actors.checks import integer, number, text
from tinker_actors.errors import InvalidInput
from tinker_actors.types.integers import INT32, TopkLogprobs, int32_array, topk_table
from tinker_actors.types.tensor import FloatArray, TensorData, TokenArray

__all__ = ["PromptAltTokens", "SampledSequence", "SampleResponse", "SamplingParams", "StopReason", "TopkLogprobs"]

StopReason: TypeAlias = Literal["stop", "length"]


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
        keep = msgspec.structs.force_setattr
        if self.max_tokens is not None:
            cure = "Use at least 1, or None"
            keep(self, "max_tokens", integer("max_tokens", self.max_tokens, cure, low=1, high=INT32[1]))
        if self.seed is not None:
            keep(self, "seed", integer("seed", self.seed, "Use an integer of 64 bits, or None"))
        keep(self, "temperature", number("temperature", self.temperature, "Use a number from 0"))
        keep(self, "top_p", number("top_p", self.top_p, "Use a number in (0, 1]"))
        keep(self, "top_k", integer("top_k", self.top_k, "Use at least 1, or -1 for no limit"))
        if not math.isfinite(self.temperature) or self.temperature < 0:
            raise InvalidInput("temperature", f"{self.temperature} is out of range", "Use a number from 0")
        if not (0.0 < self.top_p <= 1.0):
            raise InvalidInput("top_p", f"{self.top_p} is out of range", "Use a number in (0, 1]")
        if self.top_k != -1 and not 1 <= self.top_k <= INT32[1]:
            raise InvalidInput("top_k", f"{self.top_k} is out of range", "Use at least 1, or -1 for no limit")
        if self.stop is not None:
            keep(self, "stop", _stop(self.stop))


class SampledSequence(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One continuation: ``tokens`` int32 and ``logprobs`` float32 of one length (None if absent).

    Other rows of integers become int32. Raises InvalidInput for a token beyond 32 bits, and names its place.
    """

    stop_reason: StopReason
    tokens: TokenArray
    logprobs: FloatArray | None = None
    topk_logprobs: TopkLogprobs | None = None
    sequence_id: str | None = None

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "tokens", int32_array("SampledSequence.tokens", self.tokens))
        if self.topk_logprobs is not None:
            table = topk_table("SampledSequence.topk_logprobs", self.topk_logprobs)
            msgspec.structs.force_setattr(self, "topk_logprobs", table)

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


class PromptAltTokens(msgspec.Struct, frozen=True, kw_only=True):
    """Other tokens drawn at each prompt position, and their log-probabilities: both dense, [prompt length - 1, k]."""

    tokens: TensorData
    logprobs: TensorData

    def __post_init__(self) -> None:
        cure = "Give two dense tensors of one shape, [prompt length - 1, k]"
        for name, dtype in (("tokens", "int64"), ("logprobs", "float32")):
            tensor: Any = getattr(self, name)
            if not isinstance(tensor, TensorData) or tensor.dtype != dtype or tensor.indices is not None:
                raise InvalidInput(f"PromptAltTokens.{name}", f"is no dense tensor of {dtype}", cure)
        if len(self.tokens.dims) != 2 or self.tokens.dims != self.logprobs.dims:
            raise InvalidInput("PromptAltTokens", "has tensors of different shapes", cure)


class SampleResponse(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The result of one sample call: ``num_samples`` sequences, and for the prompt what was asked for.

    ``prompt_logprobs`` has one entry for each prompt token, None for the first one. ``target_prompt_logprobs`` has
    the shape and layout of the targets asked for, 0.0 where none was.
    Raises InvalidInput for a token id or a count of cached tokens beyond 32 bits.
    """

    sequences: tuple[SampledSequence, ...]
    prompt_logprobs: tuple[float | None, ...] | None = None
    topk_prompt_logprobs: TopkLogprobs | None = None
    prompt_cache_hit_tokens: int = 0
    target_prompt_logprobs: TensorData | None = None
    prompt_alt_tokens: PromptAltTokens | None = None

    def __post_init__(self) -> None:
        low, high = INT32
        field, cure = "SampleResponse.prompt_cache_hit_tokens", "Give the number of cached tokens of the prompt"
        cached = integer(field, self.prompt_cache_hit_tokens, cure, low=low, high=high)
        msgspec.structs.force_setattr(self, "prompt_cache_hit_tokens", cached)
        if self.topk_prompt_logprobs is not None:
            table = topk_table("SampleResponse.topk_prompt_logprobs", self.topk_prompt_logprobs)
            msgspec.structs.force_setattr(self, "topk_prompt_logprobs", table)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SampleResponse):
            return NotImplemented
        return (
            self.sequences == other.sequences
            and self.prompt_logprobs == other.prompt_logprobs
            and self.topk_prompt_logprobs == other.topk_prompt_logprobs
            and self.prompt_cache_hit_tokens == other.prompt_cache_hit_tokens
            and self.target_prompt_logprobs == other.target_prompt_logprobs
            and self.prompt_alt_tokens == other.prompt_alt_tokens
        )

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # holds arrays: comparable, not hashable


def _stop(given: Any) -> str | tuple[str, ...] | tuple[int, ...]:
    cure = "Give strings, or token ids"
    if isinstance(given, str):
        return text("stop", given, cure, empty=True)
    try:
        items = tuple(given)
    except TypeError:
        raise InvalidInput("stop", "is neither text nor a list", cure) from None
    strings = [isinstance(item, str) for item in items]
    if all(strings):
        return tuple([text("stop", item, cure, empty=True) for item in items])
    if any(strings):
        raise InvalidInput("stop", "mixes types", "Give only strings or only token ids")
    low, high = INT32
    return tuple([integer(f"stop[{index}]", item, cure, low=low, high=high) for index, item in enumerate(items)])


def _bytes(array: FloatArray | None) -> bytes | None:
    return None if array is None else array.tobytes()
