"""Sampling with a key-value cache.

A sequence's tokens and log-probabilities depend on its prompt, parameters and seed alone: never on who shares the
slots (see transformer), nor on how many sequences there are.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tinker_actors.errors import InvalidInput
from tinker_actors.local.engine.config import ModelConfig, TextOf
from tinker_actors.local.engine.head import position_blocks
from tinker_actors.local.engine.prompt_scores import (
    NO_SCORES,
    PromptScores,
    best,
    check_prompt_scores,
    prompt_scores,
    wants_scores,
)
from tinker_actors.local.engine.transformer import Cache, Weights, bucket, decode, forward
from tinker_actors.types.requests import SampleRequest
from tinker_actors.types.sampling import SampledSequence, SampleResponse, SamplingParams, StopReason
from tinker_actors.types.tensor import FloatArray

__all__ = ["BYTE_OFFSET", "Stops", "check_sample", "choose", "sample_all", "sample_steps", "seed_of"]

SLOTS: Final = 64
"""Sequences that are sampled side by side. It bounds memory and changes no result."""
_TOKENS_AT_A_TIME: Final = 160
"""Padded tokens of prompts that are read side by side, as in training."""
BYTE_OFFSET: Final = 3
"""The packaged tokenizer's ids are bytes from here on; those below are special tokens without text."""
_MARGIN: Final = 8  # tokens: a tail may begin within a character


def check_sample(config: ModelConfig, request: SampleRequest) -> None:
    """Raise InvalidInput for anything in ``request`` that can't be done."""
    if len(request.prompt.text_chunks) != len(request.prompt.chunks):
        raise InvalidInput("prompt", "holds more than text", "This model reads only tokens")
    prompt = request.prompt.to_array()
    vocabulary = config.vocab_size
    if prompt.size == 0:
        raise InvalidInput(
            "prompt", "is empty", f"Give at least one token, such as {max(config.bos_id, 0)}, the first of a text"
        )
    if int(prompt.max()) >= vocabulary:
        bad = int(prompt[prompt >= vocabulary][0])
        raise InvalidInput("prompt", f"token {bad} is outside the vocabulary of {vocabulary}", "Check the tokenizer")
    if prompt.size >= config.max_context:
        raise InvalidInput(
            "prompt",
            f"has {prompt.size} tokens, which leaves no room in the context of {config.max_context}",
            f"Give at most {config.max_context - 1}",
        )
    if request.num_samples < 1:
        raise InvalidInput("num_samples", f"{request.num_samples} is not positive", "Ask for at least 1")
    k = request.topk_sample_logprobs
    if not 0 <= k <= vocabulary:
        cure = f"Use a number from 0 to {vocabulary}, the vocabulary"
        raise InvalidInput("topk_sample_logprobs", f"{k} is out of range", cure)
    check_prompt_scores(request, prompt.size, vocabulary)
    stop = request.sampling_params.stop
    for item in (stop,) if isinstance(stop, str) else stop or ():
        if item == "":
            raise InvalidInput("stop", "holds an empty string", "Leave it out")
        if isinstance(item, int) and not 0 <= item < vocabulary:
            raise InvalidInput(
                "stop", f"token {item} is outside the vocabulary of {vocabulary}", "Check the tokenizer"
            )


def seed_of(request: SampleRequest, seed: int | None) -> int:
    """The request's own seed, else the caller's ``seed``, else one drawn from its place in its sampling session."""
    if request.sampling_params.seed is not None:
        return request.sampling_params.seed
    if seed is not None:
        return seed
    if request.sampling_session_id is None or request.seq_id is None:
        raise InvalidInput(
            "seed", "is missing, and there is no sampling session and seq_id to draw it from", "Give one"
        )
    place = f"{request.sampling_session_id}\n{request.seq_id}"
    return int.from_bytes(sha256(place.encode()).digest()[:8], "little")


@dataclass(slots=True)
class Stops:
    """What ends a sequence: token ids, and texts as bytes.

    ``text_of`` is how a tokenizer other than the packaged one reads tokens.
    """

    tokens: frozenset[int]
    texts: tuple[bytes, ...]
    text_of: TextOf | None = None

    @classmethod
    def of(cls, params: SamplingParams, eos_id: int, text_of: TextOf | None = None) -> Stops:
        if params.stop is None:
            return cls(frozenset((eos_id,)), ())
        items = (params.stop,) if isinstance(params.stop, str) else params.stop
        return cls(
            frozenset(item for item in items if isinstance(item, int)),
            tuple(item.encode("utf-8", "surrogatepass") for item in items if isinstance(item, str)),
            text_of,
        )

    def ended_by(self, tokens: Sequence[int], text: bytearray) -> bool:
        """Whether the last of ``tokens`` ends them; adds its byte to ``text``, what was generated before it."""
        token = tokens[-1]
        if self.text_of is not None:
            return token in self.tokens or self._in_tail(tokens)
        if token < BYTE_OFFSET:
            text.clear()  # a stop string does not reach across a special token
        else:
            text.append((token - BYTE_OFFSET) & 0xFF)
        return token in self.tokens or any(text.endswith(stop) for stop in self.texts)

    def _in_tail(self, tokens: Sequence[int]) -> bool:
        """Whether a text stands in what was generated; it did not before the last token."""
        if not self.texts or self.text_of is None:
            return False
        reach = max(map(len, self.texts)) + _MARGIN  # a token is a byte at least
        tail = self.text_of(tokens[-reach:]).encode("utf-8", "surrogatepass")
        return any(stop in tail for stop in self.texts)


@dataclass(slots=True)
class _Prompt:
    """One request: its prompt has been run once for all of its samples."""

    request: SampleRequest
    length: int
    limit: int
    stops: Stops
    last: FloatArray
    """The head's input after its last token, [d_model]."""
    keys_and_values: list[tuple[FloatArray, FloatArray]]
    """Of each layer, [head, position, head size]."""
    scores: PromptScores


@dataclass(slots=True)
class _Run:
    """One sequence being sampled."""

    prompt: _Prompt
    rng: random.Random
    tokens: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    topk: list[tuple[tuple[int, float], ...]] = field(default_factory=list[tuple[tuple[int, float], ...]])
    text: bytearray = field(default_factory=bytearray)
    stop_reason: StopReason | None = None

    def take(self, logprobs: FloatArray) -> None:
        """Draw the next token from ``logprobs`` [vocabulary], and see whether it is the last."""
        request = self.prompt.request
        token = choose(logprobs, request.sampling_params, self.rng)
        self.tokens.append(token)
        self.logprobs.append(float(logprobs[token]))
        if request.topk_sample_logprobs:
            self.topk.append(best(logprobs, request.topk_sample_logprobs))
        if self.prompt.stops.ended_by(self.tokens, self.text):
            self.stop_reason = "stop"
        elif len(self.tokens) >= self.prompt.limit:
            self.stop_reason = "length"

    def result(self) -> SampledSequence:
        return SampledSequence(
            stop_reason=self.stop_reason or "length",
            tokens=np.array(self.tokens, np.int32),
            logprobs=np.array(self.logprobs, np.float32),
            topk_logprobs=tuple(self.topk) if self.topk else None,
        )


def choose(logprobs: FloatArray, params: SamplingParams, rng: random.Random) -> int:
    """One token by temperature, then top_k, then top_p. Temperature 0 takes the likeliest, the lowest id of equals.

    top_p keeps the likeliest tokens up to and including the one with which their sum reaches it.
    """
    if params.temperature == 0.0:
        return int(logprobs.argmax())
    scores = logprobs.astype(np.float64)
    scores /= params.temperature
    probabilities: NDArray[np.float64] = np.exp(scores - scores.max())
    order: NDArray[np.intp] | None = None
    if params.top_k != -1 or params.top_p < 1.0:
        order = np.argsort(-scores, kind="stable")
        if params.top_k != -1:
            order = order[: params.top_k]
        probabilities = probabilities[order]
    cumulative: NDArray[np.float64] = np.cumsum(probabilities)
    if params.top_p < 1.0:
        enough: float = params.top_p * float(cumulative[-1])
        cumulative = cumulative[: int(cumulative.searchsorted(enough)) + 1]
    drawn: float = rng.random() * float(cumulative[-1])
    at = min(int(cumulative.searchsorted(drawn, side="right")), cumulative.size - 1)
    return at if order is None else int(order[at])


def _log_softmax(hidden: FloatArray, head: FloatArray) -> FloatArray:
    logits = np.matmul(hidden, head.T)
    logits -= logits.max(axis=-1, keepdims=True)
    logits -= np.log(np.add.reduce(np.exp(logits), axis=-1, keepdims=True))
    return logits


def _read_prompts(
    config: ModelConfig,
    weights: Weights,
    requests: Sequence[SampleRequest],
    seeds: Sequence[int],
    *,
    text_of: TextOf | None,
) -> list[_Prompt]:
    """The prompts of ``requests``, which are padded to one length, run side by side."""
    tokens = np.zeros((len(requests), _padded(requests[0])), np.int64)
    for row, request in enumerate(requests):
        tokens[row, : request.prompt.length] = request.prompt.to_array()
    tape = forward(weights, tokens)
    read: list[_Prompt] = []
    for row, (request, seed) in enumerate(zip(requests, seeds, strict=True)):
        length = request.prompt.length
        scores = NO_SCORES
        if wants_scores(request):
            blocks = position_blocks(tape.hidden.shape[1], config.vocab_size)
            rows = (_log_softmax(tape.hidden[row : row + 1, cut], weights.head)[0] for cut in blocks)
            scores = prompt_scores(request, request.prompt.to_array(), rows, seed)
        limit = config.max_context - length
        if request.sampling_params.max_tokens is not None:
            limit = min(limit, request.sampling_params.max_tokens)
        stops = Stops.of(request.sampling_params, config.eos_id, text_of)
        # not the tape itself: the attention of many long prompts would fill the memory
        last, kept = tape.hidden[row, length - 1].copy(), tape.keys_and_values(length, row)
        read.append(_Prompt(request, length, limit, stops, last, kept, scores))
    return read


def _padded(request: SampleRequest) -> int:
    return bucket(request.prompt.length)


def sample_steps(
    config: ModelConfig, weights: Weights, request: SampleRequest, seed: int, *, text_of: TextOf | None = None
) -> Generator[tuple[int, float, StopReason | None]]:
    """The first sample of ``request`` as ``sample_all`` has it, to the bit: each token when it is drawn, with its
    log-probability, the last one with why it is.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        (prompt,) = _read_prompts(config, weights, (request,), (seed,), text_of=text_of)
        run = _Run(prompt, random.Random(f"{seed}:0"))
        cache = Cache(weights, 1)
        cache.fill(0, prompt.keys_and_values)
        hidden = prompt.last[None, None]
    while True:
        # not around the yield: numpy's setting would be that of whoever asks for the next
        with np.errstate(over="ignore", invalid="ignore"):
            logprobs = _finite(_log_softmax(hidden, weights.head))
        run.take(logprobs[0, 0])
        yield run.tokens[-1], run.logprobs[-1], run.stop_reason
        if run.stop_reason is not None:
            return
        with np.errstate(over="ignore", invalid="ignore"):
            tokens = np.array(run.tokens[-1:], np.int64)
            hidden = decode(weights, cache, tokens, np.array([prompt.length + len(run.tokens) - 1], np.int64))


def _finite(logprobs: FloatArray) -> FloatArray:
    if np.isnan(logprobs[:, 0, 0]).any():
        raise InvalidInput("snapshot", "its weights give no finite probabilities", "Train at a lower learning rate")
    return logprobs


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is refused by name, not by a warning
def sample_all(
    config: ModelConfig,
    weights: Weights,
    requests: Sequence[SampleRequest],
    seeds: Sequence[int],
    *,
    text_of: TextOf | None = None,
) -> list[SampleResponse]:
    """The responses to ``requests``, which are computed side by side. ``text_of`` as in ``Stops``.

    Stops: null stops at the end-of-text token; anything given replaces it, and an empty list never stops. The
    stopping token is part of the result. ``max_tokens`` is also bounded by the context. Log-probabilities are those
    of the model itself, before temperature, top_k and top_p.
    """
    # those of one length next to each other: they share numpy calls, and no result depends on the order
    order = sorted(range(len(requests)), key=lambda index: requests[index].prompt.length)
    waiting: deque[tuple[int, int]] = deque(
        (index, number) for index in order for number in range(requests[index].num_samples)
    )
    unread = deque(order)
    prompts: dict[int, _Prompt] = {}
    runs: list[list[_Run]] = [[] for _ in requests]
    slots: list[_Run] = []
    width = min(SLOTS, len(waiting))
    cache = Cache(weights, width)
    hidden = np.empty((width, 1, config.d_model), weights.embed.dtype)
    while waiting or slots:
        while waiting and len(slots) < width:
            index, number = waiting.popleft()
            if index not in prompts:
                length = _padded(requests[index])
                chosen: list[int] = [unread.popleft()]
                most = _TOKENS_AT_A_TIME // length
                while unread and len(chosen) < most and _padded(requests[unread[0]]) == length:
                    chosen.append(unread.popleft())
                asked, drawn = [requests[i] for i in chosen], [seeds[i] for i in chosen]
                prompts.update(
                    zip(chosen, _read_prompts(config, weights, asked, drawn, text_of=text_of), strict=True)
                )
            prompt = prompts[index]
            run = _Run(prompt, random.Random(f"{seeds[index]}:{number}"))
            runs[index].append(run)
            cache.fill(len(slots), prompt.keys_and_values)
            hidden[len(slots), 0] = prompt.last
            slots.append(run)
        logprobs = _finite(_log_softmax(hidden[: len(slots)], weights.head))
        for slot, run in enumerate(slots):
            run.take(logprobs[slot, 0])
        for slot in reversed(range(len(slots))):
            if slots[slot].stop_reason is not None:
                last = slots.pop()
                if slot < len(slots):
                    slots[slot] = last
                    cache.move(len(slots), slot)
        if slots:
            tokens = np.array([run.tokens[-1] for run in slots], np.int64)
            positions = np.array([run.prompt.length + len(run.tokens) - 1 for run in slots], np.int64)
            hidden[: len(slots)] = decode(weights, cache, tokens, positions)
    return [
        SampleResponse(
            sequences=tuple(run.result() for run in runs[index]),
            **prompts[index].scores._asdict(),
        )
        for index in range(len(requests))
    ]
