"""SampleResponse against the official SDK's own reader and messages, and against bytes that are no message."""

import math
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_actors.codec.protobuf import length_field, varint_field
from tinker_actors.codec.samples import decode_sample_response, encode_sample_response
from tinker_actors.errors import DecodeError
from tinker_actors.types import SampledSequence, SampleResponse

floats = st.floats(width=32, allow_nan=False)
ids = st.integers(0, 2**31 - 1)


@st.composite
def tables(
    draw: st.DrawFn, length: int, values: st.SearchStrategy[float]
) -> tuple[tuple[tuple[int, float], ...] | None, ...] | None:
    if not length or draw(st.booleans()):
        return None
    # by the protocol this very cell says that there is none
    cells = st.tuples(ids, values).filter(lambda cell: cell != (0, -99999.0))
    row = st.lists(cells, min_size=1, max_size=3).map(tuple)
    return draw(st.lists(st.one_of(st.none(), row), min_size=length, max_size=length).map(tuple))


@st.composite
def sequences(draw: st.DrawFn, values: st.SearchStrategy[float]) -> SampledSequence:
    tokens = draw(st.lists(ids, max_size=5))
    # zero logprobs are written as none at all, as the protocol has it
    with_logprobs = bool(tokens) and draw(st.booleans())
    logprobs = draw(st.lists(values, min_size=len(tokens), max_size=len(tokens)))
    return SampledSequence(
        stop_reason=draw(st.sampled_from(["stop", "length"])),
        tokens=np.array(tokens, np.int32),
        logprobs=np.array(logprobs, np.float32) if with_logprobs else None,
        topk_logprobs=draw(tables(len(tokens), values)),
    )


@st.composite
def responses(draw: st.DrawFn, values: st.SearchStrategy[float] = floats) -> SampleResponse:
    prompt = draw(st.lists(st.one_of(st.none(), values), max_size=4))
    return SampleResponse(
        sequences=draw(st.lists(sequences(values), max_size=3).map(tuple)),
        prompt_logprobs=tuple(prompt) or None,
        topk_prompt_logprobs=draw(tables(len(prompt), values)),
        prompt_cache_hit_tokens=draw(st.integers(0, 2**31 - 1)),
    )


def sdk_table(table: Any) -> Any:
    """The SDK's own reading of a top-k table, in our terms."""
    if table is None:
        return None
    rows: list[Any] = []
    for token_ids, logprobs in zip(table.token_ids.tolist(), table.logprobs.tolist(), strict=True):
        cells = [c for c in zip(token_ids, logprobs, strict=True) if c != (0, -99999.0)]
        rows.append(tuple(cells) if (token_ids[0], logprobs[0]) != (0, -99999.0) else None)
    return tuple(rows)


@given(responses())
def test_round_trip(response: SampleResponse):
    assert decode_sample_response(encode_sample_response(response)) == response


@given(responses())
def test_the_sdk_reads_what_we_write(response: SampleResponse):
    conversions = pytest.importorskip("tinker.proto.response_conv")
    theirs = conversions.deserialize_sample_response(encode_sample_response(response))

    assert len(theirs.sequences) == len(response.sequences)
    for mine, other in zip(response.sequences, theirs.sequences, strict=True):
        assert other.stop_reason == mine.stop_reason
        assert other.tokens == mine.tokens.tolist()
        assert other.logprobs == (None if mine.logprobs is None else mine.logprobs.tolist())
        assert sdk_table(other.topk_logprobs_np) == mine.topk_logprobs
    assert sdk_table(theirs.topk_prompt_logprobs_np) == response.topk_prompt_logprobs
    prompt = None if theirs.prompt_logprobs is None else tuple(theirs.prompt_logprobs)
    assert prompt == response.prompt_logprobs
    assert theirs.prompt_cache_hit_tokens == response.prompt_cache_hit_tokens


@given(responses())
def test_we_read_what_the_sdks_messages_write(response: SampleResponse):
    schema = pytest.importorskip("tinker.proto.tinker_public_pb2")
    theirs = schema.SampleResponse.FromString(encode_sample_response(response))
    # fields that are newer than this client
    theirs.target_prompt_logprobs.dense = b"\0\0\0\0"
    theirs.prompt_alt_tokens.tokens.dtype = 3
    assert decode_sample_response(theirs.SerializeToString()) == response


def test_unknown_fields_are_skipped():
    response = SampleResponse(
        sequences=(SampledSequence(stop_reason="length", tokens=np.array([1], np.int32)),), prompt_cache_hit_tokens=3
    )
    extra = b"".join([varint_field(90, 1), *length_field(91, b"later")])
    assert decode_sample_response(extra + encode_sample_response(response) + extra) == response


def test_absent_cells_of_a_table_are_filled_up_and_left_out_again():
    table = (None, ((5, -1.0), (6, -2.0)), ((7, -0.5),))
    response = SampleResponse(sequences=(), topk_prompt_logprobs=table)
    schema = pytest.importorskip("tinker.proto.tinker_public_pb2")
    theirs = schema.SampleResponse.FromString(encode_sample_response(response)).topk_prompt_logprobs
    assert (theirs.k, theirs.length) == (2, 3)
    assert np.frombuffer(theirs.token_ids, "<i4").tolist() == [0, 0, 5, 6, 7, 0]
    assert np.frombuffer(theirs.logprobs, "<f4").tolist() == [-99999.0, -99999.0, -1.0, -2.0, -0.5, -99999.0]
    assert decode_sample_response(encode_sample_response(response)) == response


def message(**fields: Any) -> bytes:
    schema = pytest.importorskip("tinker.proto.tinker_public_pb2")
    response = schema.SampleResponse()
    sequence = response.sequences.add(tokens=b"\1\0\0\0\2\0\0\0")
    for name, value in fields.items():
        if isinstance(value, dict):
            table = getattr(sequence, name)
            for key, part in value.items():
                setattr(table, key, part)
        else:
            setattr(sequence, name, value)
    body: bytes = response.SerializeToString()
    return body


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"tokens": b"\1\0\0"}, "tokens that are not whole"),
        ({"logprobs": b"\0" * 4}, "not one for each token"),
        ({"tokens": b"\1\0\0", "logprobs": b"\0\0\0"}, "tokens that are not whole"),
        ({"topk_sampled_logprobs": {"k": 2, "length": 1, "token_ids": b"\0" * 4, "logprobs": b"\0" * 4}}, "disagree"),
        ({"topk_sampled_logprobs": {"k": 1, "length": 1, "token_ids": b"\0" * 4, "logprobs": b"\0" * 8}}, "disagree"),
        ({"topk_sampled_logprobs": {"k": 2**31, "length": 2**31, "token_ids": b""}}, "disagree"),
    ],
)
def test_sizes_must_fit(fields: dict[str, Any], problem: str):
    with pytest.raises(DecodeError, match=problem):
        decode_sample_response(message(**fields))


def test_a_stop_reason_of_the_future_is_refused_and_an_absent_one_is_stop():
    assert decode_sample_response(message()).sequences[0].stop_reason == "stop"
    sequence = b"".join([varint_field(1, 2), *length_field(2, b"")])
    with pytest.raises(DecodeError, match="stop_reason 2"):
        decode_sample_response(b"".join(length_field(1, sequence)))


def test_prompt_logprobs_that_are_missing_are_none():
    known = np.array([math.nan, -1.0], "<f4").tobytes()
    assert decode_sample_response(b"".join(length_field(2, known))).prompt_logprobs == (None, -1.0)
    assert decode_sample_response(b"".join(length_field(2, b""))).prompt_logprobs is None


@given(st.one_of(st.binary(max_size=200), responses().map(encode_sample_response)), st.data())
def test_arbitrary_and_changed_bytes_give_a_response_or_a_typed_error(body: bytes, data: st.DataObject):
    changed = bytearray(body)
    if changed:
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(changed)))
    for candidate in (bytes(changed), bytes(changed[:cut])):
        with suppress(DecodeError):
            decode_sample_response(candidate)
