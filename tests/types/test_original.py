"""What the types of the original's client do, done by the types here, through JSON where they travel."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinker_actors.types as ta
from tinker_actors.codec.forward_backward import decode_forward_backward_request, encode_forward_backward_request
from tinker_actors.codec.json import decode_json, encode_json
from tinker_actors.errors import DecodeError, InvalidInput
from tinker_actors.testing.strategies import values
from tinker_actors.types.telemetry import TelemetryEvent

WHEN = datetime.datetime(2026, 11, 24, 2, 0, tzinfo=datetime.UTC)
STAMP = "2026-11-24T02:00:00Z"
PROMPT = ta.ModelInput.from_ints([1, 2])
PARAMS = ta.SamplingParams(max_tokens=1)
BASE = {"event_id": "e", "event_session_index": 3, "timestamp": WHEN}


def sent(value: object) -> dict[str, Any]:
    return json.loads(encode_json(value))


# what its checklist calls "47 more", as far as its documents name them
MORE: dict[str, type[Any]] = {
    "EncodedTextChunk": ta.EncodedTextChunk,
    "ImageChunk": ta.ImageChunk,
    "ImageAssetPointerChunk": ta.ImageAssetPointerChunk,
    "SampleRequest": ta.SampleRequest,
    "SampleResponse": ta.SampleResponse,
    "ForwardBackwardInput": ta.ForwardBackwardRequest,
    "ForwardBackwardRequest": ta.ForwardBackwardRequest,
    "ForwardRequest": ta.ForwardBackwardRequest,
    "ForwardBackwardOutput": ta.ForwardBackwardOutput,
    "OptimStepRequest": ta.OptimStepRequest,
    "OptimStepResponse": ta.OptimStepResponse,
    "CreateSessionRequest": ta.CreateSessionRequest,
    "CreateSessionResponse": ta.CreateSessionResponse,
    "CreateModelRequest": ta.CreateModelRequest,
    "CreateModelResponse": ta.CreateModelResponse,
    "CreateSamplingSessionRequest": ta.CreateSamplingSessionRequest,
    "CreateSamplingSessionResponse": ta.CreateSamplingSessionResponse,
    "GetInfoRequest": ta.ModelIdRequest,
    "GetInfoResponse": ta.GetInfoResponse,
    "ModelData": ta.ModelData,
    "UnloadModelRequest": ta.UnloadModelRequest,
    "UnloadModelResponse": ta.UnloadModelResponse,
    "SaveWeightsRequest": ta.SaveWeightsRequest,
    "SaveWeightsResponse": ta.SaveWeightsResponse,
    "LoadWeightsRequest": ta.LoadWeightsRequest,
    "LoadWeightsResponse": ta.LoadWeightsResponse,
    "SaveWeightsForSamplerRequest": ta.SaveWeightsForSamplerRequest,
    "SaveWeightsForSamplerResponse": ta.SaveWeightsForSamplerResponse,
    "FutureRetrieveRequest": ta.RetrieveFutureRequest,
    "FutureRetrieveResponse": ta.MetadataOnly,
    "TryAgainResponse": ta.TryAgain,
    "RequestFailedResponse": ta.FailedResult,
    "CheckpointsListResponse": ta.CheckpointsListResponse,
    "CheckpointArchiveUrlResponse": ta.CheckpointArchiveUrlResponse,
    "TrainingRun": ta.TrainingRun,
    "TrainingRunsResponse": ta.TrainingRunsResponse,
    "GetSessionResponse": ta.GetSessionResponse,
    "ListSessionsResponse": ta.ListSessionsResponse,
    "GetSamplerResponse": ta.GetSamplerResponse,
    "WeightsInfoResponse": ta.WeightsInfoResponse,
    "GetServerCapabilitiesResponse": ta.GetServerCapabilitiesResponse,
    "SupportedModel": ta.SupportedModel,
    "HealthResponse": ta.HealthResponse,
    "SessionHeartbeatRequest": ta.SessionIdRequest,
    "TelemetryResponse": ta.TelemetryResponse,
}


@pytest.mark.parametrize("name", {kind: name for name, kind in MORE.items()}.values())
@settings(max_examples=10)
@given(data=st.data())
def test_the_other_types_travel_there_and_back(name: str, data: st.DataObject):
    kind = MORE[name]
    value = data.draw(values(kind))
    if kind is ta.ForwardBackwardRequest:
        assert decode_forward_backward_request(b"".join(encode_forward_backward_request(value))) == value
    elif kind is ta.EncodedTextChunk:
        prompt = ta.SampleRequest(prompt=ta.ModelInput(chunks=(value,)), sampling_params=PARAMS)
        assert decode_json(encode_json(prompt), ta.SampleRequest) == prompt
    else:
        assert decode_json(encode_json(value), kind) == value


def test_an_input_grows_by_chunks_and_tokens():
    empty = ta.ModelInput.empty()
    assert (empty.length, empty.to_ints()) == (0, [])
    two = empty.append_int(5).append_int(6)
    assert (len(two.chunks), two.to_ints(), two.length) == (1, [5, 6], 2)
    image = two.append(ta.ImageChunk(b"x", "png", expected_tokens=4))
    after = image.append_int(7)
    assert [type(chunk).__name__ for chunk in after.chunks] == ["EncodedTextChunk", "ImageChunk", "EncodedTextChunk"]
    assert after.length == 7
    assert ta.ModelInput.from_ints([1, 2]).append_ints([3]).to_ints() == [1, 2, 3]


@pytest.mark.parametrize("chunk", [ta.ImageChunk(b"x", "png"), ta.ImageAssetPointerChunk("s3://a", "jpeg")])
def test_an_image_that_does_not_say_its_tokens_has_no_length(chunk: ta.ImageChunk | ta.ImageAssetPointerChunk):
    with pytest.raises(InvalidInput, match="expected_tokens"):
        ta.ModelInput.from_ints([1]).append(chunk).length


def test_images_travel_in_base64_and_what_is_not_set_does_not():
    assert sent(ta.ImageChunk(b"\x00\xff", "png", 3)) == {
        "type": "image",
        "data": base64.b64encode(b"\x00\xff").decode(),
        "format": "png",
        "expected_tokens": 3,
    }
    assert "expected_tokens" not in sent(ta.ImageChunk(b"x", "jpeg"))
    pointer = {"type": "image_asset_pointer", "location": "s3://a", "format": "png"}
    assert sent(ta.ImageAssetPointerChunk("s3://a", "png")) == pointer


@pytest.mark.parametrize("asked", [None, True, False])
def test_prompt_logprobs_are_asked_for_refused_or_not_named(asked: bool | None):
    body = sent(ta.SampleRequest(prompt=PROMPT, sampling_params=PARAMS, prompt_logprobs=asked))
    assert ("prompt_logprobs" in body) is (asked is not None)
    assert body.get("prompt_logprobs") is asked


def test_there_are_two_types_of_tensors():
    assert get_args(ta.TensorDtype) == ("int64", "float32")
    for array, dtype in (
        (np.zeros(2, np.float64), "float32"),
        (np.zeros(2, np.float16), "float32"),
        (np.zeros(2, np.int32), "int64"),
        (np.zeros(2, np.uint8), "int64"),
    ):
        assert ta.TensorData.from_numpy(array).dtype == dtype
    with pytest.raises(InvalidInput, match="dtype"):
        ta.TensorData([1], "int32")  # pyright: ignore[reportArgumentType]


def test_losses_and_reasons_to_stop_have_their_names():
    assert {"cross_entropy", "importance_sampling", "ppo", "cispo", "dro"} <= set(get_args(ta.LossFn))
    assert get_args(ta.StopReason) == ("stop", "length")
    for reason in get_args(ta.StopReason):
        sequence = decode_json(b'{"tokens":[1],"stop_reason":"%s"}' % reason.encode(), ta.SampledSequence)
        assert sequence.stop_reason == reason
    with pytest.raises(DecodeError):
        decode_json(b'{"tokens":[1],"stop_reason":"later"}', ta.SampledSequence)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("active", ta.QueueState.ACTIVE),
        (" Paused_Rate_Limit ", ta.QueueState.PAUSED_RATE_LIMIT),
        ("PAUSED_CAPACITY", ta.QueueState.PAUSED_CAPACITY),
        ("new", ta.QueueState.UNKNOWN),
        ("", ta.QueueState.UNKNOWN),
        (None, ta.QueueState.UNKNOWN),
    ],
)
def test_states_of_a_queue_are_read_in_any_case(text: str | None, state: ta.QueueState):
    assert ta.QueueState.parse(text) is state
    assert ta.QueueState.parse(str(state)) is state


@pytest.mark.parametrize(
    ("text", "category", "again"),
    [
        ("user", ta.RequestErrorCategory.USER, False),
        (" Server", ta.RequestErrorCategory.SERVER, True),
        ("UNKNOWN", ta.RequestErrorCategory.UNKNOWN, True),
        ("user_error", ta.RequestErrorCategory.UNKNOWN, True),
        (None, ta.RequestErrorCategory.UNKNOWN, True),
    ],
)
def test_only_a_users_error_is_not_worth_asking_again(
    text: str | None, category: ta.RequestErrorCategory, again: bool
):
    assert ta.RequestErrorCategory.parse(text) is category
    assert category.retryable is again
    assert ta.FailedResult(error="x").category is ta.RequestErrorCategory.UNKNOWN


def test_names_are_read_written_and_have_their_defaults():
    assert [str(state) for state in ta.QueueState] == ["active", "paused_rate_limit", "paused_capacity", "unknown"]
    assert sorted(map(str, ta.RequestErrorCategory)) == ["server", "unknown", "user"]
    assert ta.TryAgain(request_id="r").queue_state is ta.QueueState.UNKNOWN
    assert ta.FailedResult(error="x").category is ta.RequestErrorCategory.UNKNOWN
    for name in (*get_args(ta.LossFn), *get_args(ta.StopReason)):
        assert name == name.lower().strip()
    for reason in get_args(ta.StopReason):
        assert sent(ta.SampledSequence(tokens=np.zeros(1, np.int32), stop_reason=reason))["stop_reason"] == reason
    assert set(get_args(ta.LossFn)) == set(ta.LOSS_FNS)
    assert ta.QueueState.parse("unheard of") is ta.QueueState.UNKNOWN


@pytest.mark.parametrize(
    ("chunk", "done"),
    [
        ({"token": "a", "token_id": 5, "index": 2, "logprob": -0.5}, False),
        ({"finish_reason": "length", "total_tokens": 9}, True),
        ({"error": "out of memory"}, True),
        ({}, False),
    ],
)
def test_a_chunk_of_a_stream_says_whether_it_is_the_last(chunk: dict[str, Any], done: bool):
    made = ta.SampleStreamChunk(**chunk)
    read = decode_json(json.dumps(chunk).encode(), ta.SampleStreamChunk)
    assert read == made
    assert {name: value for name in chunk if (value := getattr(read, name)) is not None} == chunk
    assert read.done is done


def test_checkpoints_have_times_and_cursors_lead_on():
    body = {"checkpoint_id": "weights/a", "checkpoint_type": "training", "time": STAMP}
    body |= {"tinker_path": "tinker://r:train:0/weights/a", "size_bytes": 7, "expires_at": STAMP, "later": 1}
    given: dict[str, Any] = {name: value for name, value in body.items() if name != "later"}
    made = ta.Checkpoint(**given | {"time": WHEN, "expires_at": WHEN})
    found = decode_json(json.dumps(body).encode(), ta.Checkpoint)
    assert found == made
    assert (found.time, found.expires_at, found.size_bytes, found.public) == (WHEN, WHEN, 7, False)
    assert ta.TinkerPath.parse(found.tinker_path).run == "r:train:0"
    assert ta.Cursor(offset=20, limit=20, total_count=41).next_offset == 40
    assert ta.Cursor(offset=40, limit=20, total_count=41).next_offset is None
    assert decode_json(b'{"checkpoints":[]}', ta.CheckpointsListResponse).cursor is None
    whole = b'{"checkpoints":[],"cursor":{"offset":1,"limit":2,"total_count":3}}'
    assert decode_json(whole, ta.CheckpointsListResponse).cursor == ta.Cursor(offset=1, limit=2, total_count=3)


@pytest.mark.parametrize(
    ("text", "kind"), [("weights", "training"), ("sampler_weights", "sampler"), ("external_weights", "external")]
)
def test_a_path_names_its_run_and_kind(text: str, kind: str):
    path = ta.TinkerPath.parse(f"tinker://run-1/{text}/step-5")
    assert (path.run, path.checkpoint_id, path.checkpoint_type) == ("run-1", f"{text}/step-5", kind)


@pytest.mark.parametrize(
    "text",
    [
        "https://run/weights/a",
        "tinker:/run/weights/a",
        "tinker://run/weights",
        "tinker://run/weights/a/b",
        "tinker://run//a",
        "tinker:///weights/a",
        "tinker://run/other/a",
        "tinker://run/weights/",
    ],
)
def test_what_is_no_path_of_a_checkpoint(text: str):
    for kind in ("weights", "sampler_weights"):
        assert str(ta.TinkerPath.parse(f"tinker://run/{kind}/a")) == f"tinker://run/{kind}/a"
    with pytest.raises(InvalidInput, match="path"):
        ta.TinkerPath.parse(text)


def test_a_run_holds_its_last_checkpoints():
    checkpoint = {"checkpoint_id": "weights/a", "checkpoint_type": "training", "time": STAMP, "tinker_path": "t"}
    run = {"training_run_id": "r", "base_model": "m", "model_owner": "o", "is_lora": True, "lora_rank": 8}
    run |= {"last_request_time": STAMP, "last_checkpoint": checkpoint, "last_sampler_checkpoint": None}
    body = {"training_runs": [run], "cursor": {"offset": 0, "limit": 1, "total_count": 2}}
    (found,) = decode_json(json.dumps(body).encode(), ta.TrainingRunsResponse).training_runs
    assert (found.last_request_time, found.corrupted, found.last_sampler_checkpoint) == (WHEN, False, None)
    assert found.last_checkpoint is not None
    assert found.last_checkpoint.time == WHEN


@pytest.mark.parametrize(
    "value",
    [
        ta.GetSamplerResponse(sampler_id="s", base_model="m"),
        ta.GetSamplerResponse(sampler_id="s", base_model="m", model_path="tinker://r/sampler_weights/a"),
        ta.WeightsInfoResponse(base_model="m", is_lora=False),
        ta.WeightsInfoResponse(base_model="m", is_lora=True, lora_rank=8, train_mlp=False),
    ],
)
def test_what_a_server_does_not_say_of_samplers_and_weights_is_left_out(value: Any):
    body = sent(value)
    assert None not in body.values()
    assert decode_json(json.dumps(body).encode(), type(value)) == value


@pytest.mark.parametrize(
    ("given", "name"), [("org/model:rev", "org/model"), ("org/model", "org/model"), (None, None)]
)
def test_a_tokenizers_name_has_no_revision(given: str | None, name: str | None):
    info = ta.GetInfoResponse(model_id="m", model_data=ta.ModelData(tokenizer_id=given))
    assert info.tokenizer_id == name


def test_saves_carry_their_time_to_live_and_loads_say_whether_the_optimizer_comes_too():
    save = ta.SaveWeightsRequest(model_id="m", path="a", ttl_seconds=60)
    assert sent(save)["ttl_seconds"] == 60
    assert "ttl_seconds" not in sent(ta.SaveWeightsRequest(model_id="m", path="a"))
    sampler = ta.SaveWeightsForSamplerRequest(model_id="m", path="a", ttl_seconds=60)
    assert sent(sampler)["ttl_seconds"] == 60
    for optimizer in (False, True):
        assert sent(ta.LoadWeightsRequest(model_id="m", path="p", optimizer=optimizer))["optimizer"] is optimizer


def test_a_regularizer_adds_its_weight_times_its_value():
    plain = ta.RegularizerOutput(name="l1", value=6.0, weight=0.1)
    assert plain.contribution == pytest.approx(0.6)
    assert plain.grad_norm_weighted is None
    assert ta.RegularizerOutput(name="l1", value=6, weight=0.5, grad_norm=2.0).grad_norm_weighted == 1.0


def test_a_custom_loss_is_the_sum_of_its_parts():
    parts = {
        "a": ta.RegularizerOutput(name="a", value=2.0, weight=0.5),
        "b": ta.RegularizerOutput(name="b", value=4.0, weight=0.25),
    }
    whole = ta.CustomLossOutput(base_loss=ta.BaseLossOutput(value=1.5), regularizers=parts)
    assert (whole.regularizer_total, whole.loss_total, whole.total_grad_norm) == (2.0, 3.5, None)
    assert ta.CustomLossOutput(base_loss=ta.BaseLossOutput(value=1.5)).loss_total == 1.5
    assert ta.transform(parts["a"], drop_none=True) == {"name": "a", "value": 2.0, "weight": 0.5, "custom": {}}
    measured = ta.RegularizerOutput(name="a", value=2, weight=1, grad_norm=3, custom={"mse": 1})
    assert ta.transform(measured)["grad_norm"] == 3.0
    assert ta.transform(measured)["custom"] == {"mse": 1.0}


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("fn", {"fn": lambda data: 0}),
        ("fn", {"fn": lambda a, b, c: 0}),
        ("fn", {"fn": 5}),
        ("weight", {"weight": -0.1}),
        ("weight", {"weight": float("nan")}),
        ("weight", {"weight": "1"}),
        ("name", {"name": ""}),
        ("name", {"name": 5}),
        ("is_async", {"is_async": 1}),
    ],
)
def test_a_regularizer_that_can_not_be_used_is_refused(field: str, values: dict[str, Any]):
    good: dict[str, Any] = {"fn": lambda data, logprobs: 0.0, "weight": 1, "name": "n"}
    assert ta.RegularizerSpec(**good).weight == 1.0
    with pytest.raises(InvalidInput, match=field):
        ta.RegularizerSpec(**good | values)


@pytest.mark.parametrize("kind", [ta.EventType, ta.Severity])
def test_kinds_and_severities_of_events_are_read_back(kind: Any):
    for member in kind:
        assert kind.parse(member.value) is member
        assert kind.parse(f" {member.value.lower()} ") is member
    assert kind.parse("other") is None
    assert kind.parse("") is None


EVENTS: list[tuple[TelemetryEvent, str, dict[str, Any]]] = [
    (ta.SessionStartEvent(**BASE), "SESSION_START", {"severity": "INFO"}),
    (ta.SessionEndEvent(**BASE, duration="0:01:02.5"), "SESSION_END", {"duration": "0:01:02.5"}),
    (
        ta.UnhandledExceptionEvent(**BASE, error_type="KeyError", error_message="k"),
        "UNHANDLED_EXCEPTION",
        {"severity": "ERROR", "error_type": "KeyError", "error_message": "k"},
    ),
    (
        ta.GenericEvent(**BASE, event_name="step", event_data={"n": [1, None]}, severity=ta.Severity.DEBUG),
        "GENERIC_EVENT",
        {"severity": "DEBUG", "event_name": "step", "event_data": {"n": [1, None]}},
    ),
]


@pytest.mark.parametrize(("event", "kind", "fields"), EVENTS, ids=[kind for _, kind, _ in EVENTS])
def test_each_kind_of_event_there_and_back(event: TelemetryEvent, kind: str, fields: dict[str, Any]):
    body = sent(event)
    expected = {"event": kind, "event_id": "e", "event_session_index": 3, "timestamp": STAMP} | fields
    assert body | expected == body
    assert "traceback" not in body
    assert decode_json(json.dumps(body).encode(), TelemetryEvent) == event


def test_events_are_told_apart_by_their_kind_and_a_batch_takes_a_list():
    events: Any = [event for event, _, _ in EVENTS]
    batch = ta.TelemetryBatch(events=events, platform="Linux", sdk_version="0.38.0", session_id="s")
    assert batch.events == tuple(events)
    assert decode_json(encode_json(batch), ta.TelemetryBatch) == batch
    assert [event["event"] for event in sent(batch)["events"]] == [kind for _, kind, _ in EVENTS]
    with pytest.raises(DecodeError):
        decode_json(b'{"event":"OTHER","event_id":"e"}', TelemetryEvent)
    with pytest.raises(InvalidInput, match="100"):
        ta.TelemetryBatch(events=events * 26, platform="p", sdk_version="0", session_id="s")


def test_estimates_add_up():
    estimate = ta.ByteEstimator("0.24.1")
    image = ta.ImageChunk(b"12345", "png")
    pointer = ta.ImageAssetPointerChunk("s3://bucket/a", "png")
    assert estimate.model_input(ta.ModelInput.empty()) == 0
    assert estimate.model_input(ta.ModelInput(chunks=(image,))) == 5
    assert estimate.model_input(ta.ModelInput(chunks=(pointer,))) == len("s3://bucket/a")
    text = ta.ModelInput.from_ints([1, 2, 3])
    assert estimate.model_input(text.append(image)) == 35
    for inputs in ({"weights": [1.0] * 3}, {"weights": ta.TensorData([1.0] * 3)}, {"weights": np.ones(3)}):
        assert estimate.datum(ta.Datum(text, inputs)) == 30 + 30
    datum = ta.Datum(text, {"weights": [1.0] * 3, "target_tokens": [1, 2, 3]})
    assert estimate.data([datum, datum]) == 2 * estimate.datum(datum) == 180


def test_none_is_dropped_from_mappings_and_structs_and_false_and_zero_are_not():
    kept = {"a": False, "b": 0, "c": "", "d": []}
    assert ta.transform({"x": None, **kept, "in": {"y": None}}, drop_none=True) == {**kept, "in": {}}
    chunk = ta.SampleStreamChunk(token="", index=0)
    assert ta.transform(chunk, drop_none=True) == {"token": "", "index": 0}
    assert ta.transform(chunk)["logprob"] is None


BAD: dict[str, Callable[[], object]] = {
    "loss_fn_inputs['mine']": lambda: ta.Datum(PROMPT, {"mine": [1.0, 2.0]}),
    "loss_fn_inputs['weights']": lambda: ta.Datum(PROMPT, {"weights": ["a", "b"]}),
}


@pytest.mark.parametrize("field", BAD)
def test_a_list_under_an_unknown_name_has_no_type(field: str):
    with pytest.raises(InvalidInput) as refused:
        BAD[field]()
    assert refused.value.field == field
