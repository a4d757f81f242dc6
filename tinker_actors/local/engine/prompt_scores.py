"""What a sample request wants to know of its prompt: log-probabilities of its tokens and of others (WIRE 2.5, 5.9).

Row i of what has ``len(prompt) - 1`` rows is about prompt position i + 1; the first token has nothing before it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
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


def prompt_scores(
    request: SampleRequest, prompt: TokenArray, blocks: Iterable[FloatArray], seed: int
) -> PromptScores:
    """What ``request`` asks of ``prompt``, from the model's log-probabilities after each token, [length, vocabulary].

    They come in ``blocks`` of rows, one after the other, since all of them can be too much for the memory.
    ``prompt_alt_tokens`` are drawn with replacement at the request's temperature, whatever its top_k and top_p.
    """
    skipped = 1 if request.prompt_logprobs_last_n is None else prompt.size - request.prompt_logprobs_last_n
    scored: list[float] = []
    topk: list[tuple[tuple[int, float], ...]] = []
    targets: list[FloatArray] = []
    drawn: list[IntArray] = []
    chosen: list[FloatArray] = []
    rng = random.Random(f"{seed}:prompt")  # not the stream of a sample, which these draws must not move
    start = 0
    for block in blocks:
        rows = block[: prompt.size - 1 - start]
        asked = rows[max(skipped - 1 - start, 0) :]
        if request.prompt_logprobs:
            scored += rows[np.arange(len(rows)), prompt[start + 1 : start + 1 + len(rows)]].tolist()
        if request.topk_prompt_logprobs:
            topk += [best(row, request.topk_prompt_logprobs) for row in asked]
        if request.target_prompt_logprobs is not None:
            targets.append(_of_targets(request.target_prompt_logprobs, rows, start))
        if request.prompt_alt_tokens_k:
            drawn.append(_drawn(rows, request.prompt_alt_tokens_k, request.sampling_params.temperature, rng))
            chosen.append(np.take_along_axis(rows, drawn[-1], axis=1))
        start += len(rows)
    nothing = (None,) * skipped
    wanted = request.target_prompt_logprobs
    return PromptScores(
        prompt_logprobs=(*nothing, *scored[skipped - 1 :]) if request.prompt_logprobs else None,
        topk_prompt_logprobs=(*nothing, *topk) if request.topk_prompt_logprobs else None,
        target_prompt_logprobs=None if wanted is None else _as_asked(wanted, np.concatenate(targets)),
        prompt_alt_tokens=PromptAltTokens(
            tokens=TensorData(np.concatenate(drawn), "int64"), logprobs=TensorData(np.concatenate(chosen), "float32")
        )
        if drawn
        else None,
    )


def best(logprobs: FloatArray, k: int) -> tuple[tuple[int, float], ...]:
    """The ``k`` likeliest tokens, the lowest id of equals first."""
    if k < logprobs.size // 8:  # of a large vocabulary, sort only those that can be among them
        candidates = np.flatnonzero(logprobs >= np.partition(logprobs, -k)[-k])
        order = candidates[np.argsort(-logprobs[candidates], kind="stable")[:k]]
    else:
        order = np.argsort(-logprobs, kind="stable")[:k]
    return tuple((int(token), float(logprobs[token])) for token in order)


def _of_targets(targets: TensorData, rows: FloatArray, start: int) -> FloatArray:
    """The log-probabilities of those targets that belong to ``rows``, which begin at row ``start``."""
    stop = start + len(rows)
    if targets.indices is None:
        values = targets.values[start:stop]
        found = np.take_along_axis(rows, np.maximum(values, 0).astype(np.int64), axis=1)
    else:
        bounds = targets.indices[0]
        values = targets.values[bounds[start] : bounds[stop]]
        places = np.repeat(np.arange(len(rows)), np.diff(bounds[start : stop + 1]))
        found = rows[places, np.maximum(values, 0).astype(np.int64)]
    return np.where(values < 0, np.zeros_like(found), found)


def _as_asked(targets: TensorData, found: FloatArray) -> TensorData:
    if targets.indices is None:
        return TensorData(found, "float32")
    return TensorData(found, "float32", targets.dims, *targets.indices)


def _drawn(rows: FloatArray, k: int, temperature: float, rng: random.Random) -> IntArray:
    tokens = np.zeros((len(rows), k), np.int64)
    if temperature == 0.0:
        tokens[...] = rows.argmax(axis=1)[:, None]
        return tokens
    for row, logprobs in enumerate(rows):
        scores = logprobs.astype(np.float64) / temperature
        cumulative: NDArray[np.float64] = np.cumsum(np.exp(scores - scores.max()))
        draws = np.array([rng.random() for _ in range(k)], np.float64) * float(cumulative[-1])
        places: NDArray[np.intp] = np.searchsorted(cumulative, draws, side="right")
        tokens[row] = np.minimum(places, len(cumulative) - 1)
    return tokens
