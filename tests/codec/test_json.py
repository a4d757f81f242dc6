"""JSON: the forms of the protocol, both ways, against the official SDK's own models."""

import math
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinker_actors.types as ta
from tinker_actors.codec.json import decode_json, encode_json
from tinker_actors.codec.json_forms import FORMS
from tinker_actors.errors import DecodeError, InvalidInput
from tinker_actors.testing.strategies import values

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
text = st.text(max_size=5)
texts = st.dictionaries(text, text, max_size=2)
seq_ids = st.integers(0, 2**31 - 1)
optional_seq_ids = st.one_of(st.none(), seq_ids)
names = text.filter(bool)
optional_text = st.one_of(st.none(), text)
inputs = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=6), max_size=3).map(
    lambda chunks: ta.ModelInput(chunks=tuple(ta.EncodedTextChunk(tokens) for tokens in chunks))
)
tensors = st.one_of(
    st.lists(finite, min_size=1, max_size=6).map(lambda values: ta.TensorData(values, "float32")),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6).map(lambda values: ta.TensorData(values, "int64")),
    st.integers(1, 3).map(lambda n: ta.TensorData(np.arange(n * 2, dtype=np.float32).reshape(n, 2))),
)
params = st.builds(
    ta.SamplingParams,
    max_tokens=st.one_of(st.none(), st.integers(1, 1000)),
    seed=optional_seq_ids,
    stop=st.one_of(st.none(), text, st.lists(text, max_size=3), st.lists(seq_ids, max_size=3)),
    temperature=st.floats(0, 2),
    top_k=st.one_of(st.just(-1), st.integers(1, 100)),
    top_p=st.floats(0.01, 1),
)
REQUESTS: dict[type[Any], st.SearchStrategy[Any]] = {
    ta.CreateSessionRequest: st.builds(
        ta.CreateSessionRequest,
        tags=st.lists(text, max_size=2).map(tuple),
        user_metadata=texts,
        sdk_version=text,
        project_id=optional_text,
    ),
    ta.SessionIdRequest: st.builds(ta.SessionIdRequest, session_id=text),
    ta.CreateModelRequest: st.builds(
        ta.CreateModelRequest,
        session_id=text,
        model_seq_id=seq_ids,
        base_model=text,
        lora_config=st.builds(ta.LoraConfig, rank=st.integers(1, 64), seed=optional_seq_ids),
        user_metadata=st.one_of(st.none(), texts),
        optimizer_config=st.just({"type": "adamw"}),
    ),
    ta.ModelIdRequest: st.builds(ta.ModelIdRequest, model_id=text),
    ta.OptimStepRequest: st.builds(
        ta.OptimStepRequest,
        model_id=text,
        seq_id=seq_ids,
        adam_params=st.builds(ta.AdamParams, learning_rate=st.floats(0, 1), beta1=st.floats(0, 0.99)),
    ),
    ta.SaveWeightsRequest: st.builds(
        ta.SaveWeightsRequest, model_id=text, seq_id=seq_ids, path=st.just("a"), ttl_seconds=st.just(3600)
    ),
    ta.SaveWeightsForSamplerRequest: st.builds(
        ta.SaveWeightsForSamplerRequest, model_id=text, seq_id=seq_ids, sampling_session_seq_id=seq_ids
    ),
    ta.LoadWeightsRequest: st.builds(
        ta.LoadWeightsRequest,
        path=st.just("tinker://r/weights/a"),
        optimizer=st.booleans(),
        model_id=text,
        seq_id=seq_ids,
    ),
    ta.CreateSamplingSessionRequest: st.builds(
        ta.CreateSamplingSessionRequest, session_id=text, sampling_session_seq_id=seq_ids, base_model=text
    ),
    ta.SampleRequest: st.builds(
        ta.SampleRequest,
        prompt=inputs,
        sampling_params=params,
        num_samples=st.integers(1, 9),
        sampling_session_id=optional_text,
        seq_id=optional_seq_ids,
        prompt_logprobs=st.one_of(st.none(), st.booleans()),
        topk_prompt_logprobs=st.integers(0, 5),
        topk_sample_logprobs=st.integers(0, 5),
    ),
    ta.RetrieveFutureRequest: st.builds(ta.RetrieveFutureRequest, request_id=text, allow_metadata_only=st.booleans()),
}
SDK_NAMES = {
    ta.SessionIdRequest: "session_heartbeat_request.SessionHeartbeatRequest",
    ta.ModelIdRequest: "get_info_request.GetInfoRequest",
    ta.RetrieveFutureRequest: "future_retrieve_request.FutureRetrieveRequest",
}
REPLIES: dict[type[Any], st.SearchStrategy[Any]] = {
    ta.Promise: st.builds(
        ta.Promise, request_id=names, sample_sequence_ids=st.one_of(st.none(), st.just(("a", "b")))
    ),
    ta.SampleResponse: values(ta.SampleResponse),
    ta.ForwardBackwardOutput: st.builds(
        ta.ForwardBackwardOutput,
        loss_fn_output_type=text,
        loss_fn_outputs=st.lists(st.dictionaries(text, tensors, max_size=2), max_size=3).map(tuple),
        metrics=st.dictionaries(text, st.floats(allow_nan=False, allow_infinity=False), max_size=2),
    ),
    ta.OptimStepResponse: st.builds(
        ta.OptimStepResponse, metrics=st.one_of(st.none(), st.dictionaries(text, finite, max_size=2))
    ),
    ta.CreateModelResponse: st.builds(ta.CreateModelResponse, model_id=names),
    ta.GetInfoResponse: st.builds(
        ta.GetInfoResponse, model_id=text, model_data=st.builds(ta.ModelData, model_name=text), lora_rank=seq_ids
    ),
    ta.WeightsInfoResponse: st.builds(ta.WeightsInfoResponse, base_model=text, is_lora=st.booleans()),
    ta.ClientConfig: st.builds(ta.ClientConfig, fwdbwd_max_chunk_len=seq_ids),
}
ALL = REQUESTS | REPLIES


def sdk_model(type_: type[Any]) -> Any:
    name = SDK_NAMES.get(type_)
    if name is None:
        snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in type_.__name__).lstrip("_")
        name = f"{snake}.{type_.__name__}"
    module, _, cls = name.partition(".")
    return getattr(pytest.importorskip(f"tinker.types.{module}"), cls)


@pytest.mark.parametrize("type_", ALL, ids=lambda t: t.__name__)
@given(st.data())
def test_round_trip(type_: type[Any], data: st.DataObject):
    value = data.draw(ALL[type_])
    assert decode_json(encode_json(value), type_) == value


@pytest.mark.parametrize("type_", REQUESTS, ids=lambda t: t.__name__)
@given(st.data())
def test_the_sdks_strict_models_accept_our_requests_and_we_theirs(type_: type[Any], data: st.DataObject):
    """Those models refuse unknown keys, wrong tags and wrong types."""
    value = data.draw(REQUESTS[type_])
    theirs = sdk_model(type_).model_validate_json(encode_json(value))
    assert decode_json(theirs.model_dump_json(exclude_none=True).encode(), type_) == value


def test_bodies_are_those_that_were_captured_from_the_sdk():
    """The worked examples of the protocol."""
    create = ta.CreateModelRequest(
        session_id="sess-1",
        model_seq_id=0,
        base_model="m/x",
        lora_config=ta.LoraConfig(rank=8),
        optimizer_config={"type": "adamw"},
    )
    assert msgspec.json.decode(encode_json(create)) == msgspec.json.decode(
        b'{"session_id":"sess-1","model_seq_id":0,"base_model":"m/x","lora_config":{"rank":8,"train_unembed":true,'
        b'"train_mlp":true,"train_attn":true},"optimizer_config":{"type":"adamw"},"type":"create_model"}'
    )
    captured = msgspec.json.decode(
        b'{"num_samples":1,"prompt":{"chunks":[{"tokens":[1,2],"type":"encoded_text"}]},"sampling_params":{"max_tokens":4,'
        b'"stop":[],"temperature":1.0,"top_k":-1,"top_p":1.0},"sampling_session_id":"sess-1:sample:1","seq_id":0,'
        b'"prompt_logprobs":false,"topk_prompt_logprobs":0,"topk_sample_logprobs":0,"prompt_alt_tokens_k":0,'
        b'"record_stability_info":false,"type":"sample"}'
    )
    request = ta.SampleRequest(
        prompt=ta.ModelInput.from_ints([1, 2]),
        sampling_params=ta.SamplingParams(max_tokens=4, stop=[]),
        sampling_session_id="sess-1:sample:1",
        seq_id=0,
        prompt_logprobs=False,
    )
    assert decode_json(msgspec.json.encode(captured), ta.SampleRequest) == request
    assert msgspec.json.decode(encode_json(request)) == captured
    finish = ta.FinishSessionRequest(reason={"type": "success"}, detail=None)
    assert encode_json(finish) == b'{"reason":{"type":"success"},"detail":null}'
    poll = ta.RetrieveFutureRequest(request_id="req-2", allow_metadata_only=True)
    assert encode_json(poll) == b'{"request_id":"req-2","allow_metadata_only":true}'


def test_replies_carry_the_marks_by_which_clients_tell_them_apart():
    waiting = ta.TryAgain(request_id="r", queue_state=ta.QueueState.PAUSED_CAPACITY)
    assert msgspec.json.decode(encode_json(waiting)) == {
        "type": "try_again",
        "request_id": "r",
        "queue_state": "paused_capacity",
    }
    assert msgspec.json.decode(encode_json(ta.MetadataOnly(response_payload_size=7))) == {
        "status": "complete_metadata",
        "response_payload_size": 7,
    }
    failed = ta.FailedResult(error="no", category=ta.RequestErrorCategory.USER)
    assert msgspec.json.decode(encode_json(failed)) == {"error": "no", "category": "user"}


# what must be there in JSON although our own constructors fill it in, or the reverse
OTHER_DEFAULTS = {(ta.ModelInput, "chunks"), (ta.TensorData, "dtype"), (ta.ForwardBackwardOutput, "metrics")}


@pytest.mark.parametrize("type_", FORMS, ids=lambda t: t.__name__)
def test_every_form_has_the_fields_of_its_value_and_their_defaults(type_: type[msgspec.Struct]):
    def fields(of: Any) -> dict[str, Any]:
        return {field.name: field.default for field in msgspec.structs.fields(of)}

    mine, form = fields(type_), fields(FORMS[type_].form)
    mine.pop("unreduced", None)  # what a client notes of a result; no server says it
    assert form.keys() == mine.keys()
    for name, default in mine.items():
        # what a server may leave out although our own values always have it
        if (type_, name) not in {
            (ta.ModelInput, "chunks"),
            (ta.TensorData, "dtype"),
            (ta.ForwardBackwardOutput, "metrics"),
        }:
            assert form[name] == default


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (ta.OptimStepResponse(metrics={"loss": math.nan}), "metrics['loss']"),
        (ta.TensorData([1.0, math.inf]), "data[1]"),
        ({"a": [1, {"b": -math.inf}]}, "['a'][1]['b']"),
        (math.nan, "float"),
        (
            ta.SampleResponse(
                sequences=(
                    ta.SampledSequence(
                        stop_reason="stop", tokens=np.zeros(2, np.int32), logprobs=np.array([0, math.nan], np.float32)
                    ),
                )
            ),
            "sequences[0].logprobs[1]",
        ),
    ],
)
def test_a_number_that_is_none_is_refused_and_its_place_named(value: object, field: str):
    with pytest.raises(InvalidInput) as caught:
        encode_json(value)
    assert caught.value.field == field


CHUNKS = '"prompt":{"chunks":[{"type":"encoded_text","tokens":%s}]},"sampling_params":%s'


@pytest.mark.parametrize(
    ("body", "type_", "words"),
    [
        ('{"model_id":"m","seq_id":"1"}', ta.OptimStepRequest, "$.seq_id"),
        ('{"model_id":"m"}', ta.OptimStepRequest, "seq_id"),
        ('{"model_id":"m","seq_id":1,"adam_params":{"learning_rate":null}}', ta.OptimStepRequest, "learning_rate"),
        ('{"model_id":"m","seq_id":1,"adam_params":{"learning_rate":NaN}}', ta.OptimStepRequest, "malformed"),
        ('{"model_id":"m","seq_id":1,"adam_params":{"learning_rate":1e999}}', ta.OptimStepRequest, "learning_rate"),
        ('{"model_id":"m","seq_id":1,"adam_params":{"beta1":2}}', ta.OptimStepRequest, "beta1"),
        ("{" + CHUNKS % ("[-1]", "{}") + "}", ta.SampleRequest, "tokens"),
        ("{" + CHUNKS % ("[1.5]", "{}") + "}", ta.SampleRequest, "tokens[0]"),
        ("{" + CHUNKS % ("[1" + "0" * 30 + "]", "{}") + "}", ta.SampleRequest, "tokens"),
        ("{" + CHUNKS % ("[1]", '{"stop":["a",1]}') + "}", ta.SampleRequest, "stop"),
        ("{" + CHUNKS % ("[1]", '{"max_tokens":0}') + "}", ta.SampleRequest, "max_tokens"),
        ('{"prompt":{"chunks":[{"type":"image","data":""}]},"sampling_params":{}}', ta.SampleRequest, "format"),
        (
            '{"prompt":{"chunks":[{"type":"image","data":"aGk","format":"png"}]},"sampling_params":{}}',
            ta.SampleRequest,
            "base64",
        ),
        ('{"prompt":{"chunks":[{"type":"dmel","dmel":"CA=="}]},"sampling_params":{}}', ta.SampleRequest, "dmel"),
        ('{"prompt":{"chunks":[{"type":"video"}]},"sampling_params":{}}', ta.SampleRequest, "video"),
        ('{"data":[1],"dtype":"int64","shape":[2]}', ta.TensorData, "TensorData.shape"),
        ('{"data":[1e300],"dtype":"float32"}', ta.TensorData, "float32"),
        ('{"data":[9223372036854775808],"dtype":"int64"}', ta.TensorData, "int64"),
        ('{"data":[1],"dtype":"float64"}', ta.TensorData, "dtype"),
        ('{"data":[],"dtype":"int64","shape":[0],"sparse_crow_indices":[0]}', ta.TensorData, "sparse"),
        ('{"model_id":"\xff"}', ta.CreateModelResponse, "utf-8"),
        ("[" * 100_000, ta.CreateModelResponse, "Expected"),
        ('{"later":' + "[" * 100_000, ta.CreateModelResponse, "deep"),
        ("", ta.CreateModelResponse, "truncated"),
    ],
)
def test_a_body_that_is_wrong_names_where(body: str, type_: type[Any], words: str):
    raw = body.encode("latin-1") if "\xff" in body else body.encode()
    with pytest.raises(DecodeError) as caught:
        decode_json(raw, type_)
    assert words in str(caught.value)
    assert type_.__name__ in str(caught.value)


def test_unknown_keys_other_tags_and_null_for_what_may_be_absent_are_taken():
    body = b'{"type":"later","session_id":"s","info_message":null,"extra":{"a":[1]}}'
    assert decode_json(body, ta.CreateSessionResponse) == ta.CreateSessionResponse(session_id="s")
    output = decode_json(b'{"loss_fn_output_type":"x","loss_fn_outputs":[],"metrics":null}', ta.ForwardBackwardOutput)
    assert output.metrics == {}


@given(st.data())
def test_arbitrary_and_changed_bytes_give_a_value_or_a_typed_error(data: st.DataObject):
    type_ = data.draw(st.sampled_from(list(ALL)))
    body = bytearray(data.draw(st.one_of(st.binary(max_size=100), ALL[type_].map(encode_json))))
    for _ in range(data.draw(st.integers(0, 3)) if body else 0):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(DecodeError):
        decode_json(bytes(body), type_)


def test_the_strategies_cover_every_type_that_travels_as_json():
    """A new request of training or sampling without a row above is noticed."""
    travels = {
        value
        for name in ta.__all__
        if isinstance(value := getattr(ta, name), type)
        and issubclass(value, msgspec.Struct)
        and name.endswith("Request")
        and value.__module__ == "tinker_actors.types.requests"
    }
    apart = {ta.ForwardBackwardRequest, ta.FinishSessionRequest, ta.TinkerPathRequest, ta.UnloadModelRequest}
    assert travels - apart == set(REQUESTS)


def test_models_are_offered_as_objects_names_or_both():
    body = b'{"supported_models":["m/x",{"model_name":"m/y","max_context_length":8},null,{"later":1}]}'
    found = decode_json(body, ta.GetServerCapabilitiesResponse)
    assert found.supported_models == (
        ta.SupportedModel(model_name="m/x"),
        ta.SupportedModel(model_name="m/y", max_context_length=8),
        ta.SupportedModel(),
    )
    assert found.model_names == ("m/x", "m/y")
    for strange in (b'{"supported_models":[5]}', b'{"supported_models":"m/x"}', b"{}"):
        with pytest.raises(DecodeError, match="supported_models"):
            decode_json(strange, ta.GetServerCapabilitiesResponse)


@pytest.mark.parametrize("cell", ["[5,-0.5]", '{"token_id":5,"logprob":-0.5}', '{"logprob":-0.5,"token_id":5,"x":1}'])
def test_cells_of_a_table_are_pairs_or_objects(cell: str):
    sequence = f'{{"stop_reason":"stop","tokens":[5],"topk_logprobs":[[{cell}]]}}'
    body = f'{{"sequences":[{sequence}],"topk_prompt_logprobs":[null,[{cell},[6,-1]]]}}'
    found = decode_json(body.encode(), ta.SampleResponse)
    assert found.sequences[0].topk_logprobs == (((5, -0.5),),)
    assert found.topk_prompt_logprobs == (None, ((5, -0.5), (6, -1.0)))
    for strange in ("[5]", "[5,-0.5,1]", '{"token_id":5}', '"5"', '["5",-0.5]', "5"):
        with pytest.raises(DecodeError, match="topk_logprobs"):
            decode_json(body.replace(cell, strange).encode(), ta.SampleResponse)
