"""SampleResponse in protobuf, as the official SDK 0.38 reads it (tinker_public)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinker_actors.codec.protobuf import (
    Buffers,
    as_bytes,
    as_int,
    fields,
    length_field,
    varint_field,
)
from tinker_actors.codec.tensors import read_tensor, tensor_field
from tinker_actors.errors import DecodeError, InvalidInput
from tinker_actors.types import (
    FloatArray,
    PromptAltTokens,
    SampledSequence,
    SampleResponse,
    StopReason,
    TensorData,
    TokenArray,
    TopkLogprobs,
)

__all__ = ["decode_sample_response", "encode_sample_response"]

_STOP_REASONS: tuple[StopReason, StopReason] = ("stop", "length")
# a cell of a top-k table without an entry; its first column says that the whole row was not computed
_MOST_SEQUENCES = 1 << 16
_NO_TOKEN, _NO_LOGPROB = 0, -99999.0


def encode_sample_response(response: SampleResponse) -> bytes:
    """``response`` as one message.

    ``sequence_id`` is left out, as it was promised before. The rows of a top-k table are filled up to the longest.
    """
    out: Buffers = []
    for sequence in response.sequences:
        out += length_field(1, *_sequence(sequence))
    if response.prompt_logprobs is not None:
        known = [math.nan if value is None else value for value in response.prompt_logprobs]
        out += length_field(2, np.array(known, "<f4").tobytes())
    if response.topk_prompt_logprobs is not None:
        out += length_field(3, *_topk(response.topk_prompt_logprobs))
    if response.prompt_cache_hit_tokens:
        out.append(varint_field(4, response.prompt_cache_hit_tokens))
    if response.target_prompt_logprobs is not None:
        out += tensor_field(5, response.target_prompt_logprobs)
    if response.prompt_alt_tokens is not None:
        tokens, logprobs = response.prompt_alt_tokens.tokens, response.prompt_alt_tokens.logprobs
        out += length_field(6, *tensor_field(1, tokens), *tensor_field(2, logprobs))
    return b"".join(out)


def decode_sample_response(data: bytes | memoryview) -> SampleResponse:
    """The response in ``data``; its arrays are views of ``data``. Raises DecodeError."""
    try:
        return _decoded(data)
    except InvalidInput as error:
        raise DecodeError(f"sample: {error.field} {error.problem}") from error


def _decoded(data: bytes | memoryview) -> SampleResponse:
    sequences: list[SampledSequence] = []
    prompt_logprobs: tuple[float | None, ...] | None = None
    topk: TopkLogprobs | None = None
    cached = 0
    targets: TensorData | None = None
    alternatives: PromptAltTokens | None = None
    for number, value in fields(data):
        match number:
            case 1:
                if len(sequences) == _MOST_SEQUENCES:
                    raise DecodeError(f"sample: more than {_MOST_SEQUENCES} sequences")
                sequences.append(_read_sequence(as_bytes(value)))
            case 2:
                floats = _floats(as_bytes(value)).tolist()
                # empty bytes count as absent
                prompt_logprobs = tuple(None if x != x else x for x in floats) if floats else None  # noqa: PLR0124
            case 3:
                topk = _read_topk(as_bytes(value))
            case 4:
                cached = as_int(value)
            case 5:
                targets = read_tensor(as_bytes(value), "sample")
            case 6:
                alternatives = _read_alternatives(as_bytes(value))
            case _:
                pass
    return SampleResponse(
        sequences=tuple(sequences),
        prompt_logprobs=prompt_logprobs,
        topk_prompt_logprobs=topk,
        prompt_cache_hit_tokens=cached,
        target_prompt_logprobs=targets,
        prompt_alt_tokens=alternatives,
    )


def _read_alternatives(data: memoryview) -> PromptAltTokens:
    found: dict[int, TensorData] = {}
    for number, value in fields(data):
        if number in (1, 2):
            found[number] = read_tensor(as_bytes(value), "sample")
    if len(found) < 2:
        raise DecodeError("sample: alternative tokens without ids or log-probabilities")
    return PromptAltTokens(tokens=found[1], logprobs=found[2])


def _sequence(sequence: SampledSequence) -> Buffers:
    out: Buffers = []
    if sequence.stop_reason != "stop":
        out.append(varint_field(1, _STOP_REASONS.index(sequence.stop_reason)))
    out += length_field(2, sequence.tokens.astype("<i4", copy=False).tobytes())
    if sequence.logprobs is not None:
        out += length_field(3, sequence.logprobs.astype("<f4", copy=False).tobytes())
    if sequence.topk_logprobs is not None:
        out += length_field(4, *_topk(sequence.topk_logprobs))
    return out


def _topk(table: TopkLogprobs) -> Buffers:
    rows: Sequence[Sequence[tuple[int, float]]] = [row or () for row in table]
    width = max((len(row) for row in rows), default=0) or (1 if rows else 0)
    tokens = np.full((len(rows), width), _NO_TOKEN, "<i4")
    logprobs = np.full((len(rows), width), _NO_LOGPROB, "<f4")
    for index, row in enumerate(rows):
        if row:
            tokens[index, : len(row)], logprobs[index, : len(row)] = zip(*row, strict=True)
    return [
        *length_field(1, tokens.tobytes()),
        *length_field(2, logprobs.tobytes()),
        varint_field(3, width),
        varint_field(4, len(rows)),
    ]


def _read_sequence(data: memoryview) -> SampledSequence:
    reason = 0
    tokens = logprobs = memoryview(b"")
    topk: TopkLogprobs | None = None
    for number, value in fields(data):
        match number:
            case 1:
                reason = as_int(value)
            case 2:
                tokens = as_bytes(value)
            case 3:
                logprobs = as_bytes(value)
            case 4:
                topk = _read_topk(as_bytes(value))
            case _:
                pass
    if not 0 <= reason < len(_STOP_REASONS):
        raise DecodeError(f"sample: the unknown stop_reason {reason}")
    if len(logprobs) and len(logprobs) != len(tokens):
        raise DecodeError("sample: logprobs that are not one for each token")
    return SampledSequence(
        stop_reason=_STOP_REASONS[reason],
        tokens=_tokens(tokens),
        # empty bytes are what a server without logprobs sends
        logprobs=_floats(logprobs) if len(logprobs) else None,
        topk_logprobs=topk,
    )


def _read_topk(data: memoryview) -> TopkLogprobs | None:
    tokens = logprobs = memoryview(b"")
    width = length = 0
    for number, value in fields(data):
        match number:
            case 1:
                tokens = as_bytes(value)
            case 2:
                logprobs = as_bytes(value)
            case 3:
                width = as_int(value)
            case 4:
                length = as_int(value)
            case _:
                pass
    if width == 0 or length == 0:
        return None
    if width < 0 or length < 0 or width * length * 4 != len(tokens) or len(tokens) != len(logprobs):
        raise DecodeError("sample: a top-k table whose size and bytes disagree")
    ids: list[list[int]] = _tokens(tokens).reshape(length, width).tolist()
    values: list[list[float]] = _floats(logprobs).reshape(length, width).tolist()
    return tuple(_row(*row) for row in zip(ids, values, strict=True))


def _row(ids: list[int], values: list[float]) -> tuple[tuple[int, float], ...] | None:
    # the lists hold what was float32, and the sentinel is exact in it
    row = tuple((i, x) for i, x in zip(ids, values, strict=True) if (i, x) != (_NO_TOKEN, _NO_LOGPROB))
    return row if row and (ids[0], values[0]) != (_NO_TOKEN, _NO_LOGPROB) else None


def _tokens(data: memoryview) -> TokenArray:
    if len(data) % 4:
        raise DecodeError("sample: tokens that are not whole int32 numbers")
    return np.frombuffer(data, "<i4").astype(np.int32, copy=False)


def _floats(data: memoryview) -> FloatArray:
    if len(data) % 4:
        raise DecodeError("sample: logprobs that are not whole float32 numbers")
    return np.frombuffer(data, "<f4").astype(np.float32, copy=False)
