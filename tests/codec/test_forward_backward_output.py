"""ForwardBackwardOutput against the official SDK's own reader, and against bytes that are no message."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_actors.codec.forward_backward_output import (
    decode_forward_backward_output,
    encode_forward_backward_output,
)
from tinker_actors.errors import DecodeError
from tinker_actors.types import ForwardBackwardOutput, TensorData

tensors = st.one_of(
    st.lists(st.floats(width=32), min_size=1, max_size=5).map(lambda v: TensorData(v, "float32")),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5).map(lambda v: TensorData(v, "int64")),
    st.integers(1, 4).map(lambda n: TensorData(np.arange(n * 3, dtype=np.float32).reshape(n, 3))),
)
outputs = st.builds(
    ForwardBackwardOutput,
    loss_fn_output_type=st.text(max_size=4),
    loss_fn_outputs=st.lists(st.dictionaries(st.sampled_from(["logprobs", "x"]), tensors), max_size=5).map(tuple),
    metrics=st.dictionaries(st.text(max_size=4), st.floats(allow_nan=False), max_size=3),
)


@given(outputs)
def test_round_trip(output: ForwardBackwardOutput):
    assert decode_forward_backward_output(encode_forward_backward_output(output)) == output


@given(outputs)
def test_the_sdk_reads_what_we_write_and_we_read_what_it_writes(output: ForwardBackwardOutput):
    schema = pytest.importorskip("tinker.proto.tinker_public_pb2")
    theirs = schema.ForwardBackwardOutput.FromString(encode_forward_backward_output(output))

    assert dict(theirs.metrics) == output.metrics
    assert sum(record.num_datums for record in theirs.loss_fn_outputs) == len(output.loss_fn_outputs)
    assert decode_forward_backward_output(theirs.SerializeToString()) == output


def test_narrow_types_widen():
    schema = pytest.importorskip("tinker.proto.tinker_public_pb2")
    output = schema.ForwardBackwardOutput()
    record = output.loss_fn_outputs.add(num_datums=2)
    half, small = record.fields["half"], record.fields["small"]
    half.data = np.array([0x3F80, 0xC000, 0x4040], "<u2").tobytes()
    half.offsets, half.dtype = np.array([0, 4, 6], "<i8").tobytes(), 4
    small.data = np.array([-1, 5], "<i4").tobytes()
    small.offsets, small.dtype = np.array([0, 4, 8], "<i8").tobytes(), 3

    first, second = decode_forward_backward_output(output.SerializeToString()).loss_fn_outputs

    assert first["half"] == TensorData([1.0, -2.0], "float32")
    assert second["half"] == TensorData([3.0], "float32")
    assert (first["small"], second["small"]) == (TensorData([-1], "int64"), TensorData([5], "int64"))


@pytest.mark.parametrize(
    ("offsets", "dtype", "count"),
    [
        ([0, 9], 1, 1),
        ([4, 0], 1, 1),
        ([0, 3], 1, 1),
        ([3, 7], 1, 1),
        ([0, 8, 4], 1, 2),
        ([0, 2, 8], 1, 2),
        ([-(2**63), 0], 1, 1),
        ([0, 2**63 - 1], 1, 1),
        ([0, 4], 9, 1),
        ([0, 4], 1, 2),
    ],
)
def test_offsets_types_and_counts_must_fit(offsets: list[int], dtype: int, count: int):
    schema = pytest.importorskip("tinker.proto.tinker_public_pb2")
    output = schema.ForwardBackwardOutput()
    field = output.loss_fn_outputs.add(num_datums=count).fields["logprobs"]
    field.data, field.offsets, field.dtype = b"\0" * 8, np.array(offsets, "<i8").tobytes(), dtype
    with pytest.raises(DecodeError):
        decode_forward_backward_output(output.SerializeToString())
