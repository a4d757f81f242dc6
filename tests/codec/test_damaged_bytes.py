"""No decoder does worse than a typed error, on any bytes: a little in `make test`, much in `make soak-codecs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinker_actors.types as ta
from tests.codec.damage import damaged, held_to_its_bounds
from tinker_actors.codec.compression import Encoding, compress, decompress
from tinker_actors.codec.forward_backward import decode_forward_backward_request, encode_forward_backward_request
from tinker_actors.codec.forward_backward_json import decode_forward_backward_json, encode_forward_backward_json
from tinker_actors.codec.forward_backward_output import decode_forward_backward_output, encode_forward_backward_output
from tinker_actors.codec.json import decode_json, encode_json
from tinker_actors.codec.samples import decode_sample_response, encode_sample_response
from tinker_actors.codec.sampling_params import decode_sampling_params, encode_sampling_params
from tinker_actors.errors import DecodeError
from tinker_actors.testing.strategies import json_types, values

MEMORY = 8 << 20  # for a body of some KiB; what a decoder imports or builds once is in it
LIMIT = 4096
ZSTD_PIECE = 20 << 20  # what a piece of zstd may give before the limit is looked at
TYPES = json_types()
TRIES = 8  # damaged bodies for each sound one, which takes longer to make
seeds = st.integers(0, 2**32)
MESSAGES: dict[str, tuple[type[Any], Callable[[Any], Any], Callable[[bytes], Any]]] = {
    "ForwardBackwardRequest": (
        ta.ForwardBackwardRequest,
        lambda value: b"".join(encode_forward_backward_request(value)),
        decode_forward_backward_request,
    ),
    "ForwardBackwardOutput": (
        ta.ForwardBackwardOutput,
        encode_forward_backward_output,
        decode_forward_backward_output,
    ),
    "SampleResponse": (ta.SampleResponse, encode_sample_response, decode_sample_response),
    "SamplingParams": (ta.SamplingParams, encode_sampling_params, decode_sampling_params),
    "ForwardBackwardRequest in JSON": (
        ta.ForwardBackwardRequest,
        encode_forward_backward_json,
        decode_forward_backward_json,
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
@given(st.data(), seeds)
def test_a_damaged_message(name: str, data: st.DataObject, seed: int):
    kind, encode, decode = MESSAGES[name]
    body = encode(data.draw(values(kind)))
    for bad in damaged(body, seed, TRIES):
        held_to_its_bounds(decode, bad, memory=MEMORY)


@given(st.sampled_from(TYPES), st.data(), seeds)
def test_a_damaged_value_in_json(kind: type[Any], data: st.DataObject, seed: int):
    body = encode_json(data.draw(values(kind)))
    for bad in damaged(body, seed, TRIES):
        held_to_its_bounds(lambda bad: decode_json(bad, kind), bad, memory=MEMORY)


@pytest.mark.ci
@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
@settings(max_examples=max(settings().max_examples // 10, 25))  # of each of 128 types
@given(st.data(), seeds)
def test_a_damaged_value_of_each_type_in_json(kind: type[Any], data: st.DataObject, seed: int):
    body = encode_json(data.draw(values(kind)))
    for bad in damaged(body, seed, TRIES):
        held_to_its_bounds(lambda bad: decode_json(bad, kind), bad, memory=MEMORY)


@pytest.mark.parametrize("encoding", ["zstd", "gzip", "identity", "br"])
@given(st.binary(max_size=300), st.integers(1, 3000), seeds)
def test_a_damaged_compressed_body(encoding: Encoding, content: bytes, times: int, seed: int):
    body = compress(content * times, encoding) if encoding in ("zstd", "gzip") else content

    def decode(bad: bytes) -> None:
        assert len(decompress(bad, encoding, limit=LIMIT)) <= LIMIT

    for bad in (body, *damaged(body, seed, TRIES)):
        held_to_its_bounds(decode, bad, memory=ZSTD_PIECE)


def test_the_bounds_are_watched():
    with pytest.raises(AssertionError, match="of memory"):
        held_to_its_bounds(lambda body: bytearray(1 << 21), b"a", memory=1 << 20)
    with pytest.raises(AssertionError, match=r"untyped.*instead"):
        held_to_its_bounds(lambda body: (_ for _ in ()).throw(ValueError("untyped")), b"a", memory=MEMORY)

    def typed(body: bytes) -> None:
        raise DecodeError("why")

    held_to_its_bounds(typed, b"a", memory=MEMORY)


@given(st.binary(min_size=1, max_size=50), seeds)
def test_damage_is_that_of_its_seed_and_of_every_kind(body: bytes, seed: int):
    found = list(damaged(body, seed, 60))
    assert found == list(damaged(body, seed, 60))
    assert any(len(bad) < len(body) for bad in found)
    assert any(len(bad) > len(body) for bad in found)
    assert sum(bad != body for bad in found) > 40
