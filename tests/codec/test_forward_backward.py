"""ForwardBackwardRequest against the official SDK's own protobuf messages, and against bytes that are no message."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_actors.codec import datums
from tinker_actors.codec.digest import operation_digest
from tinker_actors.codec.forward_backward import (
    decode_forward_backward_request,
    encode_data,
    encode_forward_backward_request,
)
from tinker_actors.codec.protobuf import as_int, fields, length_field, length_head, varint, varint_field
from tinker_actors.errors import DecodeError, InvalidInput
from tinker_actors.testing.strategies import values
from tinker_actors.types import (
    AdamParams,
    Datum,
    DmelChunk,
    EncodedTextChunk,
    ForwardBackwardRequest,
    ImageAssetPointerChunk,
    ImageChunk,
    ModelInput,
    OptimStepRequest,
    SampledProvenanceSpan,
)

requests = values(ForwardBackwardRequest, finite=False)


def encoded(request: ForwardBackwardRequest) -> bytes:
    return b"".join(encode_forward_backward_request(request))


@given(requests)
def test_round_trip(request_: ForwardBackwardRequest):
    assert decode_forward_backward_request(encoded(request_)) == request_


@given(requests)
def test_the_sdk_reads_what_we_write_and_we_read_what_it_writes(request_: ForwardBackwardRequest):
    schema = pytest.importorskip("tinker.proto.tinker_public_pb2")
    theirs = schema.ForwardBackwardRequest.FromString(encoded(request_))

    assert (theirs.model_id, theirs.seq_id) == (request_.model_id, request_.seq_id)
    assert theirs.forward_only == request_.forward_only
    for mine, other in zip(request_.data, theirs.data, strict=True):
        for chunk, message in zip(mine.model_input.chunks, other.model_input, strict=True):
            if isinstance(chunk, EncodedTextChunk):
                assert message.encoded_text.tokens == chunk.array.tobytes()
            elif isinstance(chunk, ImageChunk):
                assert (message.image.data, message.image.format) == (chunk.data, chunk.format)
                expected = message.image.expected_tokens if message.image.HasField("expected_tokens") else None
                assert expected == chunk.expected_tokens
            else:
                assert isinstance(chunk, DmelChunk)
                assert message.dmel.dmel == chunk.dmel
        for key, tensor in mine.tensors().items():
            message = other.loss_fn_inputs[key]
            assert tuple(message.shape) == tensor.dims
            if tensor.indices is None:
                assert message.dense == tensor.values.tobytes()
            else:
                rows, columns = (array.tobytes() for array in tensor.indices)
                csr = message.sparse_csr
                assert (csr.values, csr.crow_indices, csr.col_indices) == (tensor.values.tobytes(), rows, columns)
        for span, message in zip(mine.model_input_spans or (), other.model_input_spans, strict=True):
            arm = message.sampled_tokens if isinstance(span, SampledProvenanceSpan) else message.prompt_tokens
            assert (arm.sequence_id, arm.offset, arm.length) == (span.sequence_id, span.offset, span.length)
    assert decode_forward_backward_request(theirs.SerializeToString()) == request_


@given(requests)
def test_the_digest_is_of_the_content_and_not_of_the_place(request_: ForwardBackwardRequest):
    moved = msgspec.structs.replace(request_, model_id="elsewhere", seq_id=99)
    turned = decode_forward_backward_request(encoded(moved))
    assert operation_digest(turned) == operation_digest(request_)
    other = msgspec.structs.replace(request_, forward_only=not request_.forward_only)
    assert operation_digest(other) != operation_digest(request_)


def test_an_image_that_the_server_has_to_fetch_cannot_be_trained_on():
    pointer = ImageAssetPointerChunk("https://h/a.png", "png", 1)
    datum = Datum(ModelInput(chunks=(pointer,)), {"target_tokens": [1]})
    with pytest.raises(InvalidInput, match="can't be trained on"):
        encode_data([datum])


def test_a_few_bytes_do_not_make_objects_without_end(monkeypatch: pytest.MonkeyPatch):
    assert datums._MOST_PIECES <= 2**18
    monkeypatch.setattr(datums, "_MOST_PIECES", 1000)
    chunk = b"".join(length_field(1, *length_field(1, *length_field(1, b""))))
    body = b"".join(length_field(3, chunk * 1001))
    with pytest.raises(DecodeError, match="more than"):
        decode_forward_backward_request(body)
    for shape in ([0, 2**62, 2**62], [0] * 40):
        numbers = b"".join(map(varint, shape))
        tensor = [*length_field(1, b""), varint_field(3, 1), *length_field(4, numbers)]
        entry = [*length_field(1, b"x"), *length_field(2, *tensor)]
        one = b"".join(length_field(1, *length_field(1, *length_field(1, b"\1\0\0\0"))))
        with pytest.raises(DecodeError):
            decode_forward_backward_request(b"".join(length_field(3, one, *length_field(2, *entry))))


def test_the_digest_of_a_step_counts_its_parameters():
    def step(seq_id: int, rate: float) -> str:
        return operation_digest(
            OptimStepRequest(model_id="m", seq_id=seq_id, adam_params=AdamParams(learning_rate=rate))
        )

    assert step(1, 0.1) == step(2, 0.1)
    assert step(1, 0.1) != step(1, 0.2)


@given(st.integers(-(2**63), 2**63 - 1))
def test_varints_keep_their_sign(value: int):
    assert [as_int(v) for _, v in fields(varint_field(3, value))] == [value]


@given(
    st.integers(1, 40),
    st.one_of(st.integers(0, 2**22), st.sampled_from([2**n + d for n in (7, 14, 21) for d in (-1, 0)])),
)
def test_varints_and_heads_of_fields_are_those_of_the_plain_way(number: int, length: int):
    plain = bytearray()
    for value in (number << 3 | 2, length):
        left = value
        while left > 0x7F:
            plain.append(left & 0x7F | 0x80)
            left >>= 7
        plain.append(left)
    assert length_head(number, length) == bytes(plain)
    assert varint(number << 3 | 2) + varint(length) == bytes(plain)


def test_a_shape_whose_product_wraps_is_refused():
    schema = pytest.importorskip("tinker.proto.tinker_public_pb2")
    request = schema.ForwardBackwardRequest()
    datum = request.data.add()
    datum.model_input.add().encoded_text.tokens = np.array([1], np.int32).tobytes()
    tensor = datum.loss_fn_inputs["target_tokens"]
    tensor.dense, tensor.dtype = b"\0" * 8, 2
    tensor.shape.extend([11, 3353953467947191203])  # 1 modulo 2**64
    with pytest.raises(DecodeError, match="disagree"):
        decode_forward_backward_request(request.SerializeToString())


@given(st.integers(1, 100), st.integers(0, 99))
def test_a_field_longer_than_its_message_is_refused(length: int, there: int):
    body = b"".join(length_field(9, b"x" * length))
    if there >= length:
        assert [number for number, _ in fields(body)] == [9]
    else:
        with pytest.raises(DecodeError, match="longer than its message"):
            list(fields(body[: len(body) - length + there]))


def test_only_memory_that_somebody_can_write_to_is_copied():
    def copied(tokens: object, weights: object) -> list[bool]:
        length = 300
        datum = Datum(ModelInput.from_ints(tokens), {"target_tokens": list(range(length)), "weights": weights})
        arrays = (datum.model_input.chunks[0].array, *(datum.tensor(key).to_numpy() for key in datum.loss_fn_inputs))
        buffers = [buffer for buffer in encode_data([datum]) if len(buffer) >= 1200]
        return [
            not np.shares_memory(np.frombuffer(buffer, np.uint8), array)
            for buffer, array in zip(buffers, arrays, strict=True)
        ]

    ids, ones = np.arange(300, dtype=np.int32), np.ones(300, np.float32)
    assert copied(ids.tolist(), ones.tolist()) == [False, False, False]
    assert copied(ids, ones) == [True, False, True]
    assert copied(ids.astype(np.int64), ones.astype(np.float64)) == [False, False, False]
    view = ids[:]
    view.flags.writeable = False
    assert copied(view, np.frombuffer(bytearray(1200), np.float32)) == [True, False, True]
    ids.flags.writeable = False
    assert copied(ids, np.frombuffer(bytes(1200), np.float32)) == [False, False, False]
