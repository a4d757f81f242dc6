"""SamplingParams in protobuf against the official SDK's own message, and what it has no room for."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given

from tinker_actors.codec.protobuf import length_field, varint_field
from tinker_actors.codec.sampling_params import decode_sampling_params, encode_sampling_params
from tinker_actors.errors import DecodeError, InvalidInput
from tinker_actors.testing.strategies import values
from tinker_actors.types import SamplingParams


def in_a_row(params: SamplingParams) -> SamplingParams:
    """As it is read: one stop string is a row of one, and floats have 32 bits."""
    stop = (params.stop,) if isinstance(params.stop, str) else params.stop
    floats = {name: float(np.float32(getattr(params, name))) for name in ("temperature", "top_p")}
    return msgspec.structs.replace(params, stop=stop, **floats)


@given(values(SamplingParams))
def test_round_trip(params: SamplingParams):
    assert decode_sampling_params(encode_sampling_params(params)) == in_a_row(params)


@given(values(SamplingParams))
def test_the_sdks_message_reads_what_we_write_and_we_what_it_writes(params: SamplingParams):
    schema = pytest.importorskip("tinker.proto.tinker_public_pb2")
    message = schema.SamplingParams.FromString(encode_sampling_params(params))
    for name in ("max_tokens", "top_k", "temperature", "top_p"):
        expected = getattr(in_a_row(params), name)
        assert message.HasField(name) == (expected is not None)
        assert expected is None or getattr(message, name) == expected
    assert message.HasField("seed") == (params.seed is not None)
    assert params.seed is None or message.seed == params.seed % 2**64
    arm = message.WhichOneof("stop")
    stop = in_a_row(params).stop
    if stop is None:
        assert arm is None
    else:
        assert arm == ("stop_tokens" if stop and isinstance(stop[0], int) else "stop_strs")
        assert tuple(getattr(message, arm).values) == tuple(stop)
    assert decode_sampling_params(message.SerializeToString()) == in_a_row(params)


@pytest.mark.parametrize(
    ("field", "given_"),
    [
        ("max_tokens", {"max_tokens": 2**31}),
        ("top_k", {"top_k": 2**31}),
        ("temperature", {"temperature": 1e300}),
        ("top_p", {"top_p": 1e-300}),
        ("stop[0]", {"stop": [2**31]}),
    ],
)
def test_what_it_has_no_room_for_is_refused(field: str, given_: dict[str, Any]):
    with pytest.raises(InvalidInput) as caught:
        encode_sampling_params(SamplingParams(**given_))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (varint_field(1, 0), "max_tokens"),
        (varint_field(3, 1), "bytes are due"),
        (b"".join(length_field(7, *length_field(1, b"\x01" * 5000))), "more than 4096"),
        (b"".join(length_field(6, *(length_field(1, b"a") * 5000))), "more than 4096"),
    ],
)
def test_what_can_not_be_meant_is_a_typed_error(body: bytes, problem: str):
    with pytest.raises(DecodeError, match=problem):
        decode_sampling_params(body)


def test_the_empty_message_is_the_defaults():
    assert decode_sampling_params(b"") == SamplingParams()
