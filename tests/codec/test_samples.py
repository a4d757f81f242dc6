"""SampleResponse against the official SDK's own reader and messages, and against bytes that are no message."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from tinker_actors.codec.protobuf import length_field, varint_field
from tinker_actors.codec.samples import decode_sample_response, encode_sample_response
from tinker_actors.errors import DecodeError
from tinker_actors.testing.strategies import values
from tinker_actors.types import SampledSequence, SampleResponse

responses = values(SampleResponse, finite=False)


def sdk_table(table: Any) -> Any:
    """The SDK's own reading of a top-k table, in our terms."""
    if table is None:
        return None
    rows: list[Any] = []
    for token_ids, logprobs in zip(table.token_ids.tolist(), table.logprobs.tolist(), strict=True):
        cells = [c for c in zip(token_ids, logprobs, strict=True) if c != (0, -99999.0)]
        rows.append(tuple(cells) if (token_ids[0], logprobs[0]) != (0, -99999.0) else None)
    return tuple(rows)


@given(responses)
def test_round_trip(response: SampleResponse):
    assert decode_sample_response(encode_sample_response(response)) == response


@given(responses)
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
    for mine, other in (
        (response.target_prompt_logprobs, theirs.target_prompt_logprobs),
        (
            response.prompt_alt_tokens and response.prompt_alt_tokens.tokens,
            getattr(theirs.prompt_alt_tokens, "tokens", None),
        ),
    ):
        assert (mine is None) == (other is None)
        if mine is not None and other is not None:
            assert other.data == mine.values.ravel().tolist()
            assert tuple(other.shape) == mine.dims
            assert other.sparse_col_indices == (None if mine.indices is None else mine.indices[1].tolist())


@given(responses)
def test_we_read_what_the_sdks_messages_write(response: SampleResponse):
    schema = pytest.importorskip("tinker.proto.tinker_public_pb2")
    theirs = schema.SampleResponse.FromString(encode_sample_response(response))
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
