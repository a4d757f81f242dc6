"""What a sample request wants to know of its prompt: log-probabilities of its tokens and of others (WIRE 2.5, 5.9).

Row i of what has ``len(prompt) - 1`` rows is about prompt position i + 1; the first token has nothing before it.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinker_actors.errors import InvalidInput
from tinker_actors.types.requests import SampleRequest
from tinker_actors.types.sampling import PromptAltTokens, TopkLogprobs
from tinker_actors.types.tensor import FloatArray, IntArray, TensorData, TokenArray

__all__ = ["NO_SCORES", "PromptScores", "best", "check_prompt_scores", "prompt_scores", "wants_scores"]


class PromptScores(NamedTuple):
    """Each is None where it was not asked for."""

    prompt_logprobs: tuple[float | None, ...] | None = None
    topk_prompt_logprobs: TopkLogprobs | None = None
    target_prompt_logprobs: TensorData | None = None
    prompt_alt_tokens: PromptAltTokens | None = None


NO_SCORES = PromptScores()


def check_prompt_scores(request: SampleRequest, length: int, vocabulary: int) -> None:
    """Raise InvalidInput, naming the field, for what can't be said of a prompt of ``length`` tokens."""
    for name in ("topk_prompt_logprobs", "prompt_alt_tokens_k"):
        k: int = getattr(request, name)
        if not 0 <= k <= vocabulary:
            raise InvalidInput(name, f"{k} is out of range", f"Use a number from 0 to {vocabulary}, the vocabulary")
    last = request.prompt_logprobs_last_n
    if last is not None and not request.prompt_logprobs:
        raise InvalidInput(
            "prompt_logprobs_last_n", "is given without prompt_logprobs", "Ask for them, or leave it out"
        )
    if last is not None and not 1 <= last < length:
        cure = f"Use 1 to {length - 1}" if length > 1 else "Leave it out for a prompt of one token"
        raise InvalidInput("prompt_logprobs_last_n", f"{last} is out of range", cure)
    if request.target_prompt_logprobs is not None:
        _check_targets(request.target_prompt_logprobs, length - 1, vocabulary)


def _check_targets(targets: TensorData, rows: int, vocabulary: int) -> None:
    field, shape = "target_prompt_logprobs", list(targets.dims)
    if targets.dtype != "int64" or len(shape) != 2 or shape[0] != rows:
        problem = f"is a tensor of {targets.dtype} and shape {shape}"
        raise InvalidInput(field, problem, f"Give token ids as int64 of shape [{rows}, K]")
    values = targets.values
    if not (values >= 0).any():
        raise InvalidInput(field, "names no token", "Give at least one id, or leave it out")
    if (values < -1).any() or (values >= vocabulary).any():
        bad = int(values[(values < -1) | (values >= vocabulary)][0])
        cure = f"Give ids below {vocabulary}, or -1 for none"
        raise InvalidInput(field, f"token {bad} is outside the vocabulary of {vocabulary}", cure)


def wants_scores(request: SampleRequest) -> bool:
    """Whether anything is asked for at all."""
    return bool(
        request.prompt_logprobs
        or request.topk_prompt_logprobs
        or request.prompt_alt_tokens_k
        or request.target_prompt_logprobs is not None
    )


def prompt_scores(request: SampleRequest, prompt: TokenArray, logprobs: FloatArray, seed: int) -> PromptScores:
    """What ``request`` asks of ``prompt``, from the model's ``logprobs`` [length, vocabulary] after each token.

    ``prompt_alt_tokens`` are drawn with replacement at the request's temperature, whatever its top_k and top_p.
    """
    rows = logprobs[: prompt.size - 1]
    skipped = 1 if request.prompt_logprobs_last_n is None else prompt.size - request.prompt_logprobs_last_n
    nothing = (None,) * skipped
    scored = topk = targets = drawn = None
    if request.prompt_logprobs:
        of_prompt: list[float] = rows[np.arange(len(rows)), prompt[1:]].tolist()
        scored = (*nothing, *of_prompt[skipped - 1 :])
    if request.topk_prompt_logprobs:
        topk = (*nothing, *[best(row, request.topk_prompt_logprobs) for row in rows[skipped - 1 :]])
    if request.target_prompt_logprobs is not None:
        targets = _of_targets(request.target_prompt_logprobs, rows)
    if request.prompt_alt_tokens_k:
        tokens = _drawn(rows, request.prompt_alt_tokens_k, request.sampling_params.temperature, seed)
        chosen = np.take_along_axis(rows, tokens, axis=1)
        drawn = PromptAltTokens(tokens=TensorData(tokens, "int64"), logprobs=TensorData(chosen, "float32"))
    return PromptScores(scored, topk, targets, drawn)


def best(logprobs: FloatArray, k: int) -> tuple[tuple[int, float], ...]:
    """The ``k`` likeliest tokens, the lowest id of equals first."""
    order = np.argsort(-logprobs, kind="stable")[:k]
    return tuple((int(token), float(logprobs[token])) for token in order)


def _of_targets(targets: TensorData, rows: FloatArray) -> TensorData:
    values = targets.values
    indices = targets.indices
    if indices is None:
        found = np.take_along_axis(rows, np.maximum(values, 0).astype(np.int64), axis=1)
        return TensorData(np.where(values < 0, np.zeros_like(found), found), "float32")
    places = np.repeat(np.arange(len(rows)), np.diff(indices[0]))
    found = rows[places, np.maximum(values, 0).astype(np.int64)]
    return TensorData(np.where(values < 0, np.zeros_like(found), found), "float32", targets.dims, *indices)


def _drawn(rows: FloatArray, k: int, temperature: float, seed: int) -> IntArray:
    tokens = np.zeros((len(rows), k), np.int64)
    if temperature == 0.0:
        tokens[...] = rows.argmax(axis=1)[:, None]
        return tokens
    rng = random.Random(f"{seed}:prompt")  # not the stream of a sample, which these draws must not move
    for row, logprobs in enumerate(rows):
        scores = logprobs.astype(np.float64) / temperature
        cumulative: NDArray[np.float64] = np.cumsum(np.exp(scores - scores.max()))
        draws = np.array([rng.random() for _ in range(k)], np.float64) * float(cumulative[-1])
        places: NDArray[np.intp] = np.searchsorted(cumulative, draws, side="right")
        tokens[row] = np.minimum(places, len(cumulative) - 1)
    return tokens
