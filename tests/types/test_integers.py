"""Integers that the wire has no room for are refused where they are given, with their place; none wraps round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tinker_actors.types as ta
from tinker_actors.codec.forward_backward import encode_forward_backward_request
from tinker_actors.codec.json import decode_json
from tinker_actors.codec.protobuf import length_field, varint_field
from tinker_actors.codec.samples import decode_sample_response
from tinker_actors.errors import DecodeError, InvalidInput

INT32 = 2**31
INT64 = 2**63
PROMPT = ta.ModelInput.from_ints([1, 2])


def sequence(tokens: Any, **more: Any) -> ta.SampledSequence:
    return ta.SampledSequence(stop_reason="stop", tokens=tokens, **more)


def alternatives(row: Any) -> ta.PromptAltTokens:
    logprobs = ta.TensorData(np.zeros((1, len(row)), np.float32))
    return ta.PromptAltTokens(tokens=ta.TensorData(row, "int64", [1, len(row)]), logprobs=logprobs)


# what takes a row of integers: the field that is named, the least and the largest of them, and what is kept
ROWS: dict[str, tuple[str, int, int, Callable[[Any], Any]]] = {
    "text": ("tokens", 0, INT32 - 1, lambda row: ta.EncodedTextChunk(row).array),
    "more text": ("tokens", 0, INT32 - 1, lambda row: ta.ModelInput.empty().append_ints(row).to_array()),
    "sample": ("SampledSequence.tokens", -INT32, INT32 - 1, lambda row: sequence(row).tokens),
    "tensor": ("TensorData.data", -INT64, INT64 - 1, lambda row: ta.TensorData(row, "int64").values),
    "alternatives": ("TensorData.data", -INT64, INT64 - 1, lambda row: alternatives(row).tokens.values[0]),
    "targets": (
        "loss_fn_inputs['target_tokens']",
        -INT64,
        INT64 - 1,
        lambda row: (
            ta.Datum(ta.ModelInput.from_ints([1] * len(row)), {"target_tokens": row}).tensor("target_tokens").values
        ),
    ),
}
FORMS: dict[str, Callable[[list[int]], Any]] = {
    "list": list,
    "tuple": tuple,
    "numpy's own choice": np.array,
    "objects": lambda row: np.array(row, object),
}


def narrow(row: list[int]) -> Any:
    """The row as the narrowest array that holds it."""
    for kind in (np.int8, np.uint16, np.int64, np.uint64):
        if np.iinfo(kind).min <= min(row) <= max(row) <= np.iinfo(kind).max:
            return np.array(row, kind)
    return row


@pytest.mark.parametrize("what", ROWS)
@pytest.mark.parametrize("form", [*FORMS, "narrow"])
@given(
    st.lists(
        st.one_of(
            st.integers(0, 9),
            st.sampled_from([-1, INT32 - 1, INT32, -INT32, -INT32 - 1, INT64 - 1, INT64, -INT64, -INT64 - 1, 2**64]),
            st.integers(),
        ),
        min_size=1,
        max_size=6,
    )
)
@example([1, 2, INT32])
@example([0, INT64, -1])
@example([0, 2**64])
def test_a_row_is_kept_as_it_is_or_its_first_number_without_room_is_named(form: str, what: str, row: list[int]):
    field, low, high, make = ROWS[what]
    wrong = next((index for index, value in enumerate(row) if not low <= value <= high), None)
    shaped = narrow(row) if form == "narrow" else FORMS[form](row)
    if isinstance(shaped, np.ndarray) and shaped.dtype.kind == "f":
        return  # numpy has made floats of them, and nobody can tell what they were
    if isinstance(shaped, np.ndarray) and shaped.dtype == object and wrong is None:
        return  # objects are no numbers, whatever they are
    if wrong is None:
        assert make(shaped).tolist() == row
        return
    with pytest.raises(InvalidInput) as refused:
        make(shaped)
    assert refused.value.field == field
    assert f"{row[wrong]} at index {wrong}" in refused.value.problem


def test_a_place_in_a_table_has_its_row_and_column():
    with pytest.raises(InvalidInput, match=rf"beyond int64: {INT64} at index \[1, 0\]"):
        ta.TensorData(np.array([[1, 2], [INT64, 3]], np.uint64))


@pytest.mark.parametrize("part", ["crow", "col"])
def test_the_indices_of_a_sparse_tensor_say_where(part: str):
    indices = {"crow": [0, 1], "col": [0]} | {part: [0, 2**64]}
    with pytest.raises(InvalidInput, match=rf"sparse_{part}_indices.*beyond int64: {2**64} at index 1"):
        ta.TensorData([1], "int64", [1, 3], indices["crow"], indices["col"])


TABLES: dict[str, Callable[[Any], Any]] = {
    "SampledSequence.topk_logprobs": lambda table: sequence([1, 2], topk_logprobs=table).topk_logprobs,
    "SampleResponse.topk_prompt_logprobs": lambda table: (
        ta.SampleResponse(sequences=(), topk_prompt_logprobs=table).topk_prompt_logprobs
    ),
}


@pytest.mark.parametrize("field", TABLES)
@pytest.mark.parametrize("token", [INT32, -INT32 - 1, INT64, 2**64, np.int64(INT32), 0.5, True, "a"])
def test_a_table_of_the_likeliest_tokens_says_where(token: Any, field: str):
    with pytest.raises(InvalidInput) as refused:
        TABLES[field]((None, ((1, -0.5), (token, -1.0))))
    assert refused.value.field == f"{field}[1][1]"


@pytest.mark.parametrize("field", TABLES)
def test_a_table_is_kept_as_tuples_of_pythons_own_numbers(field: str):
    kept = TABLES[field]([None, [(np.int32(3), np.float32(-0.5)), [INT32 - 1, -1]], []])
    assert kept == (None, ((3, -0.5), (INT32 - 1, -1.0)), ())
    assert [type(number) for row in kept if row for pair in row for number in pair] == [int, float, int, float]
    for strange in (5, [[1]], [[(1, 2, 3)]]):
        with pytest.raises(InvalidInput, match="not a table of pairs"):
            TABLES[field](strange)


SINGLE: dict[str, Callable[[int], object]] = {
    "SampleResponse.prompt_cache_hit_tokens": lambda n: ta.SampleResponse(sequences=(), prompt_cache_hit_tokens=n),
    "max_tokens": lambda n: ta.SamplingParams(max_tokens=n),
    "top_k": lambda n: ta.SamplingParams(top_k=n),
    "stop[1]": lambda n: ta.SamplingParams(stop=[1, n]),
    "ImageChunk.expected_tokens": lambda n: ta.ImageChunk(b"x", "png", n),
    "seq_id": lambda n: encode_forward_backward_request(
        ta.ForwardBackwardRequest(
            model_id="m", seq_id=n, data=(ta.Datum(PROMPT, {"target_tokens": [2, 3]}),), loss_fn="cross_entropy"
        )
    ),
}


@pytest.mark.parametrize("field", SINGLE)
@pytest.mark.parametrize("value", [INT32, -INT32 - 1, INT64, 2**64])
def test_a_single_number_beyond_32_bits_names_its_field(value: int, field: str):
    SINGLE[field](INT32 - 1)
    with pytest.raises(InvalidInput) as refused:
        SINGLE[field](value)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "body",
    [
        b'{"sequences":[{"stop_reason":"stop","tokens":[1,2147483648]}]}',
        b'{"sequences":[{"stop_reason":"stop","tokens":[1],"topk_logprobs":[[[2147483648,0.0]]]}]}',
        b'{"sequences":[],"prompt_cache_hit_tokens":2147483648}',
    ],
)
def test_a_server_that_sends_too_much_is_an_error_of_decoding(body: bytes):
    with pytest.raises(DecodeError, match="2147483648"):
        decode_json(body, ta.SampleResponse)


def test_a_count_beyond_32_bits_in_protobuf_is_one_too():
    token = length_field(1, *length_field(2, b"\1\0\0\0"))
    assert decode_sample_response(b"".join([*token, varint_field(4, -1)])).prompt_cache_hit_tokens == -1
    with pytest.raises(DecodeError, match="out of range"):
        decode_sample_response(b"".join([*token, varint_field(4, INT32)]))
