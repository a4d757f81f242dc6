"""The rest of the protocol's values: what they refuse, and how lists, numpy and torch become tensors."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tinker_actors.types as ta
from tinker_actors.errors import InvalidInput

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def sparse(rows: Any = (0, 1, 2), columns: Any = (0, 2), shape: Any = (2, 3), values: Any = (1, 2)) -> ta.TensorData:
    return ta.TensorData(values, "int64", shape, rows, columns)


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("ImageChunk.data", lambda: ta.ImageChunk("text", "png")),
        ("ImageChunk.data", lambda: ta.ImageChunk(b"", "png")),
        ("ImageChunk.format", lambda: ta.ImageChunk(b"x", "gif")),
        ("ImageChunk.expected_tokens", lambda: ta.ImageChunk(b"x", "png", -1)),
        ("ImageChunk.expected_tokens", lambda: ta.ModelInput(chunks=(ta.ImageChunk(b"x", "png"),)).length),
        ("ImageAssetPointerChunk.location", lambda: ta.ImageAssetPointerChunk("", "png")),
        ("DmelChunk.dmel", lambda: ta.DmelChunk(b"")),
        ("DmelChunk.dmel", lambda: ta.DmelChunk(b"\x08\x01\x01")),
        ("DmelChunk.dmel", lambda: ta.DmelChunk(b"\x00\x00")),
        ("DmelChunk.dmel", lambda: ta.DmelChunk(b"\x00\x02\x05")),
        ("DmelChunk.dmel", lambda: ta.DmelChunk(b"\x00\xff\xff\x03")),
        ("chunks", lambda: ta.ModelInput(chunks=(ta.ImageChunk(b"x", "png"),)).to_ints()),
        ("PromptProvenanceSpan.sequence_id", lambda: ta.PromptProvenanceSpan(sequence_id="", length=1)),
        ("SampledProvenanceSpan.offset", lambda: ta.SampledProvenanceSpan(sequence_id="s", length=1, offset=-1)),
        ("SampledProvenanceSpan.length", lambda: ta.SampledProvenanceSpan(sequence_id="s", length=-1)),
        ("TensorData.sparse_crow_indices", lambda: sparse(rows=(0, 2))),
        ("TensorData.sparse_crow_indices", lambda: sparse(rows=(0, 3, 2))),
        ("TensorData.sparse_crow_indices", lambda: sparse(rows=(1, 1, 2))),
        ("TensorData.sparse_crow_indices", lambda: sparse(rows=None)),
        ("TensorData.sparse_crow_indices", lambda: sparse(rows=(0.0, 1.0, 2.0))),
        ("TensorData.sparse_col_indices", lambda: sparse(columns=(0, 3))),
        ("TensorData.sparse_col_indices", lambda: sparse(columns=(-1, 2))),
        ("TensorData.sparse_col_indices", lambda: sparse(rows=(0, 2, 2), columns=(2, 0))),
        ("TensorData.sparse_col_indices", lambda: sparse(rows=(0, 2, 2), columns=(1, 1))),
        ("TensorData.sparse_col_indices", lambda: sparse(columns=(0,))),
        ("TensorData.shape", lambda: sparse(shape=None)),
        ("TensorData.shape", lambda: sparse(shape=(6,))),
        ("TensorData.shape", lambda: ta.TensorData([], "int64", [0, 2**62, 2**62])),
        ("TensorData", lambda: sparse(shape=(2, 2**40)).to_numpy()),
        ("DimuonParams.learning_rate", lambda: ta.DimuonParams(learning_rate=-1.0)),
        ("DimuonParams.beta1", lambda: ta.DimuonParams(learning_rate=1.0, beta1=1.0)),
        ("OtherOptimizer.type", lambda: ta.OtherOptimizer(type="")),
        ("Cursor.offset", lambda: ta.Cursor(offset="1", limit=1, total_count=1)),
        ("SessionSearchRequest.limit", lambda: ta.SessionSearchRequest(limit=201)),
        ("UserSearchOwner.owner_urns", lambda: ta.UserSearchOwner(owner_urns=())),
        ("CopyWeightsRequest", lambda: ta.CopyWeightsRequest(source_path="tinker://r/weights/a", session_id="s")),
        (
            "CopyWeightsRequest.source_path",
            lambda: ta.CopyWeightsRequest(source_path="a", session_id="s"),
        ),
        (
            "SaveWeightsExternalRequest.age_encryption_recipients",
            lambda: ta.SaveWeightsExternalRequest(model_id="m", path="p", age_encryption_recipients=("AGE-SECRET",)),
        ),
        (
            "SessionEndEvent.duration",
            lambda: ta.SessionEndEvent(event_id="e", event_session_index=0, timestamp=NOW, duration="long"),
        ),
        ("RegularizerSpec.fn", lambda: ta.RegularizerSpec(fn=lambda data: 0, weight=1, name="n")),
        ("RegularizerSpec.weight", lambda: ta.RegularizerSpec(fn=max, weight=-1, name="n")),
        ("PromptAltTokens.tokens", lambda: ta.PromptAltTokens(tokens=sparse(), logprobs=sparse())),
        ("keys", lambda: ta.transform({1: 2})),
        ("ByteEstimator.generation", lambda: ta.ByteEstimator("0.1")),
    ],
)
def test_a_bad_value_names_its_field(field: str, make: Callable[[], object]):
    with pytest.raises(InvalidInput) as caught:
        make()
    assert caught.value.field == field
    assert caught.value.cure


numbers = st.one_of(st.floats(), st.integers(-(2**70), 2**70), st.booleans(), st.text(max_size=1), st.none())


@example(given_=[0.0, -(2**63) - 1], dtype=None)
@example(given_=[0.0, 2**64], dtype="float32")
@given(st.lists(numbers, max_size=4), st.sampled_from([None, "int64", "float32"]))
def test_a_list_becomes_the_tensor_that_numpy_makes_of_it(given_: list[Any], dtype: Any):
    """The quick way for plain lists takes what the thorough one takes, and gives the same."""

    def made(data: Any) -> Any:
        try:
            return ta.TensorData(data, dtype)
        except InvalidInput as error:
            return error.field

    try:
        array = np.asarray(given_)
    except (ValueError, TypeError):
        return
    assert made(given_) == made(array)


@given(st.lists(numbers, max_size=4))
def test_tokens_of_a_list_are_those_of_its_array(given_: list[Any]):
    def made(data: Any) -> Any:
        try:
            return ta.EncodedTextChunk(data)
        except InvalidInput as error:
            return error.field

    try:
        array = np.asarray(given_)
    except (ValueError, TypeError):
        return
    assert made(given_) == made(array)


@given(st.integers(0, 5), st.integers(0, 9), st.integers(-1, 1), st.randoms(use_true_random=False))
def test_a_sparse_tensor_gives_its_dense_one_back(rows: int, columns: int, pad: int, random: Any):
    dense = np.array([[random.choice([pad, pad, pad, 7]) for _ in range(columns)] for _ in range(rows)], np.int64)
    dense = dense.reshape(rows, columns)
    tensor = ta.TensorData.from_dense(dense, pad_value=pad)
    assert np.array_equal(tensor.to_numpy(pad), dense)
    kept = int((dense != pad).sum())
    assert (tensor.indices is not None) == (rows + 1 + 2 * kept < rows * columns)


def test_rows_of_a_tensor_share_its_memory():
    whole = ta.TensorData(np.arange(12, dtype=np.float32).reshape(6, 2))
    parts = whole.rows([1, 3, 3, 6])
    assert parts == [
        ta.TensorData(whole.values[1:3]),
        ta.TensorData([], shape=[0, 2]),
        ta.TensorData(whole.values[3:]),
    ]
    assert [part.dims for part in parts] == [(2, 2), (0, 2), (3, 2)]
    assert all(np.shares_memory(part.values, whole.values) for part in parts if len(part))
    assert not parts[0].values.flags.writeable
    assert whole.rows([]) == whole.rows([2]) == []
    assert whole.dims == (6, 2)
    for bounds in ([-1, 2], [2, 1], [0, 7]):
        with pytest.raises(InvalidInput, match="rise"):
            whole.rows(bounds)
    with pytest.raises(InvalidInput, match="no rows"):
        sparse().rows([0, 1])


def test_provenance_tiles_both_inputs_and_targets():
    datum = ta.Datum(ta.ModelInput.from_ints([1, 2, 3]), {"target_tokens": [2, 3, 4]})
    prompt = ta.PromptProvenanceSpan(sequence_id="s", length=2)
    sampled = ta.SampledProvenanceSpan(sequence_id="s", length=1)
    both = datum.with_provenance(model_input=[prompt, sampled], loss_fn_inputs=[prompt, sampled])
    assert both.model_input_spans == (prompt, sampled)
    with pytest.raises(InvalidInput, match="covers 2 positions of 3"):
        datum.with_provenance(model_input=[prompt], loss_fn_inputs=[prompt, sampled])
    with pytest.raises(InvalidInput, match="both rows"):
        msgspec.structs.replace(datum, model_input_spans=[prompt, sampled])


def test_byte_estimates_are_those_of_each_generation():
    chunks = (
        ta.EncodedTextChunk([1, 2, 3]),
        ta.ImageChunk(b"12345", "png", 1),
        ta.DmelChunk(b"\x00\x01\x01"),
    )
    tensors = {"target_tokens": list(range(5)), "other": sparse()}
    datum = ta.Datum(ta.ModelInput(chunks=chunks), tensors)
    # tokens and numbers: three of text, one image, one of audio; five and two
    assert ta.ByteEstimator("0.3.0").datum(datum) == 3 + 1 + 1 + 5 + 2
    assert ta.ByteEstimator("0.24.1").datum(datum) == 30 + 5 + 3 + 50 + 20
    for generation in ("0.25.0", "0.38.0"):
        assert ta.ByteEstimator(generation).datum(datum) == 12 + 5 + 3 + 40 + 16 + 8 * 3 + 8 * 2
    pointer = ta.ImageAssetPointerChunk("s3://a", "png")
    assert ta.ByteEstimator().prompt(ta.ModelInput(chunks=(chunks[0], pointer))) == 36
    assert ta.ByteEstimator().data([]) == 0


def test_limits_of_a_request_are_those_of_each_generation():
    limits = {
        generation: (ta.ByteEstimator(generation).max_chunk_len, ta.ByteEstimator(generation).max_chunk_bytes)
        for generation in get_args(ta.Generation)
    }
    assert limits == {
        "0.3.0": (128, 500_000),
        "0.24.1": (1024, 5_000_000),
        "0.25.0": (1024, 5_000_000),
        "0.38.0": (1024, 5_000_000),
    }
    server = ta.ClientConfig()
    assert limits["0.38.0"] == (server.fwdbwd_max_chunk_len, server.fwdbwd_max_chunk_bytes_count)


def test_nothing_given_null_and_left_out_are_three_things():
    value = {"a": None, "b": ta.NOT_GIVEN, "c": [ta.OMIT, 0], "at": NOW, "in": {"at": NOW, "d": False}}
    assert ta.transform(value, aliases={"d": "D"}, formats={"at": "iso8601"}) == {
        "a": None,
        "c": [0],
        "at": "2026-11-24T00:00:00Z",
        "in": {"at": "2026-11-24T00:00:00Z", "D": False},
    }
    assert ta.transform({"a": None, "b": 0, "c": False}, drop_none=True) == {"b": 0, "c": False}
    assert ta.transform(ta.DimuonConfig()) == {"type": "dimuon", "version": 1}
    assert ta.coalesce(ta.NOT_GIVEN, 5) == 5
    assert ta.coalesce(None, 5) is None
    assert not ta.is_given(ta.OMIT)


def test_families_of_optimizers_keep_what_they_do_not_know():
    assert ta.optimizer_config(None) == ta.AdamWConfig()
    assert ta.optimizer_config({"type": "dimuon", "version": 1}) == ta.DimuonConfig()
    other = ta.optimizer_config({"type": "later", "x": 1})
    assert ta.optimizer_fields(other) == {"type": "later", "x": 1}
    assert ta.optimizer_fields(ta.DimuonParams(learning_rate=0.5))["type"] == "dimuon"
    with pytest.raises(InvalidInput):
        ta.optimizer_config({"x": 1})


def test_a_token_within_a_copy_request_and_a_jwt_never_show():
    request = ta.CopyWeightsRequest(
        source_path="tinker://r/weights/a", destination_project_id="p", weights_access_token="secret-token"
    )
    assert "secret-token" not in repr(request)
    assert "eyJsecret" not in repr(ta.AuthTokenResponse(jwt="eyJsecret"))


def test_torch_is_not_needed_and_its_absence_has_a_cure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InvalidInput, match="Install torch"):
        ta.TensorData([1.0]).to_torch()
    with pytest.raises(InvalidInput, match="not a torch tensor"):
        ta.TensorData.from_torch([1.0])


def test_tensors_of_torch_there_and_back():
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.bfloat16, torch.int32):
        tensor = ta.TensorData.from_torch(torch.tensor([[1, 2], [3, 4]], dtype=dtype))
        assert tensor.to_torch().tolist() == [[1, 2], [3, 4]]


def test_a_datum_of_torch_is_that_of_numpy():
    torch = pytest.importorskip("torch")
    targets = np.zeros((3, 20), np.int64)
    targets[1, 4], targets[2, 0] = 7, 9
    weights = np.array([0.5, -1.5, 2.0], np.float32)
    made = ta.Datum(
        ta.ModelInput.from_ints(torch.tensor([1, 2, 3])),
        {
            "target_tokens": torch.tensor(targets),
            "weights": torch.tensor(weights, requires_grad=True),
            "logprobs": torch.tensor(weights, dtype=torch.float16),
            "other": torch.tensor(targets).to_sparse(),
        },
    )
    expected = {
        "target_tokens": ta.TensorData.from_dense(targets),
        "weights": weights,
        "logprobs": weights,
        "other": targets,
    }
    assert made == ta.Datum(ta.ModelInput.from_ints([1, 2, 3]), expected)
    assert made.tensor("target_tokens").indices is not None
    back = made.tensor("target_tokens").to_torch(pad_value=-1)
    assert back.dtype is torch.int64
    assert back.tolist() == made.tensor("target_tokens").to_numpy(-1).tolist()
    back[0, 0] = 5  # a copy, which may be written to
    assert made.tensor("target_tokens").to_numpy()[0, 0] == 0
    with pytest.raises(InvalidInput, match="not a flat list"):
        ta.ModelInput.from_ints(torch.tensor([0.5]))


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("target_token", [2, 3, 4], "not known. Did you mean 'target_tokens'? Else wrap it in TensorData("),
        ("mine", [1.0, 1.0, 1.0], "not known. Use one of target_tokens, weights, advantages, logprobs, clip_low_thr"),
        ("target_tokens", [2.5, 3, 4], "int64 tensor. Give a flat list or array of whole numbers"),
        ("weights", ["a", 1.0, 1.0], "Give a flat list or array of numbers"),
    ],
)
def test_a_wrong_loss_input_is_told_with_what_to_give(name: str, values: list[Any], words: str):
    with pytest.raises(InvalidInput) as caught:
        ta.Datum(ta.ModelInput.from_ints([1, 2, 3]), {name: values})
    assert words in str(caught.value)
    assert f"loss_fn_inputs['{name}']" in str(caught.value)
