"""Every endpoint: where it asks, what it sends, what it makes of the reply."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

import tinker_actors.types as ta
from tests.wire.scripted import Answer, scripted
from tinker_actors.codec.forward_backward import decode_forward_backward_request
from tinker_actors.errors import GoneError, NotFoundError
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints import models, sampling, service, sessions, training, weights

PROMISE = ({"request_id": "r-1"}, ta.Promise(request_id="r-1"))
DATUM = ta.Datum(ta.ModelInput.from_ints([1, 2]), {"target_tokens": [2, 3], "weights": [0.0, 1.0]})

ROWS: dict[str, tuple[Callable[[Api], Awaitable[Any]], dict[str, Any] | None, tuple[Any, Any]]] = {
    "POST /client/config": (
        lambda api: service.client_config(api, "0.38.0"),
        {"sdk_version": "0.38.0"},
        ({"parallel_fwdbwd_chunks": False, "later": 1}, ta.ClientConfig(parallel_fwdbwd_chunks=False)),
    ),
    "GET /get_server_capabilities": (
        service.get_server_capabilities,
        None,
        (
            {"supported_models": [{"model_name": "m", "max_context_length": 9}, {"model_id": "hatchery's"}]},
            ta.GetServerCapabilitiesResponse(
                supported_models=(ta.SupportedModel(model_name="m", max_context_length=9), ta.SupportedModel())
            ),
        ),
    ),
    "POST /create_session": (
        lambda api: sessions.create_session(
            api, ta.CreateSessionRequest(tags=("a",), user_metadata={}, sdk_version="0.38.0"), key="key"
        ),
        {"tags": ["a"], "user_metadata": {}, "sdk_version": "0.38.0", "type": "create_session"},
        (
            {"type": "create_session", "session_id": "s", "warning_message": "w", "info_message": None},
            ta.CreateSessionResponse(session_id="s", warning_message="w"),
        ),
    ),
    "POST /session_heartbeat": (
        lambda api: sessions.session_heartbeat(api, "s"),
        {"session_id": "s", "type": "session_heartbeat"},
        ({}, None),
    ),
    "POST /sessions/a:b%2F..%2Fc/finish": (
        lambda api: sessions.finish_session(api, "a:b/../c", "errored", None),
        {"reason": {"type": "errored"}, "detail": None},
        ("anything", None),
    ),
    "POST /create_model": (
        lambda api: models.create_model(
            api,
            ta.CreateModelRequest(session_id="s", model_seq_id=0, base_model="m", lora_config=ta.LoraConfig(rank=8)),
            key="key",
        ),
        {
            "session_id": "s",
            "model_seq_id": 0,
            "base_model": "m",
            "lora_config": {"rank": 8, "train_unembed": True, "train_mlp": True, "train_attn": True},
            "type": "create_model",
        },
        PROMISE,
    ),
    "POST /get_info": (
        lambda api: models.get_info(api, "m"),
        {"model_id": "m", "type": "get_info"},
        (
            {"model_id": "m", "model_data": {"model_name": "b"}, "optimizer_config": {"type": "adamw"}},
            ta.GetInfoResponse(
                model_id="m", model_data=ta.ModelData(model_name="b"), optimizer_config={"type": "adamw"}
            ),
        ),
    ),
    "POST /optim_step": (
        lambda api: training.optim_step(
            api, ta.OptimStepRequest(model_id="m", seq_id=2, adam_params=ta.AdamParams()), key="key"
        ),
        {
            "model_id": "m",
            "seq_id": 2,
            "type": "optim_step",
            "adam_params": {
                "learning_rate": 1e-4,
                "beta1": 0.9,
                "beta2": 0.95,
                "eps": 1e-12,
                "weight_decay": 0.0,
                "grad_clip_norm": 0.0,
            },
        },
        PROMISE,
    ),
    "POST /save_weights": (
        lambda api: weights.save_weights(api, ta.SaveWeightsRequest(model_id="m", seq_id=3, path="a"), key="key"),
        {"model_id": "m", "seq_id": 3, "path": "a", "overwrite": False, "type": "save_weights"},
        PROMISE,
    ),
    "POST /save_weights_for_sampler": (
        lambda api: weights.save_weights_for_sampler(
            api, ta.SaveWeightsForSamplerRequest(model_id="m", seq_id=4, sampling_session_seq_id=0), key="key"
        ),
        {
            "model_id": "m",
            "seq_id": 4,
            "sampling_session_seq_id": 0,
            "kind": "snapshot",
            "type": "save_weights_for_sampler",
        },
        PROMISE,
    ),
    "POST /load_weights": (
        lambda api: weights.load_weights(
            api, ta.LoadWeightsRequest(model_id="m", seq_id=1, path="tinker://r/weights/a", optimizer=True), key="key"
        ),
        {"model_id": "m", "seq_id": 1, "path": "tinker://r/weights/a", "optimizer": True, "type": "load_weights"},
        PROMISE,
    ),
    "POST /weights_info": (
        lambda api: weights.weights_info(api, "tinker://r/weights/a"),
        {"tinker_path": "tinker://r/weights/a"},
        (
            {"base_model": "m", "is_lora": True, "lora_rank": 8, "optimizer_config": {}},
            ta.WeightsInfoResponse(base_model="m", is_lora=True, lora_rank=8, optimizer_config={}),
        ),
    ),
    "POST /create_sampling_session": (
        lambda api: sampling.create_sampling_session(
            api, ta.CreateSamplingSessionRequest(session_id="s", sampling_session_seq_id=1, base_model="m"), key="key"
        ),
        {"session_id": "s", "sampling_session_seq_id": 1, "base_model": "m", "type": "create_sampling_session"},
        (
            {"sampling_session_id": "s:sample:1"},
            ta.CreateSamplingSessionResponse(sampling_session_id="s:sample:1"),
        ),
    ),
    "POST /asample": (
        lambda api: sampling.asample(
            api,
            ta.SampleRequest(
                prompt=ta.ModelInput.from_ints([1]),
                sampling_params=ta.SamplingParams(max_tokens=4, seed=7),
                sampling_session_id="s:sample:1",
                seq_id=0,
            ),
            key="key",
        ),
        {
            "num_samples": 1,
            "prompt": {"chunks": [{"tokens": [1], "type": "encoded_text"}]},
            "sampling_params": {"max_tokens": 4, "seed": 7, "temperature": 1.0, "top_k": -1, "top_p": 1.0},
            "sampling_session_id": "s:sample:1",
            "seq_id": 0,
            "topk_prompt_logprobs": 0,
            "topk_sample_logprobs": 0,
            "prompt_alt_tokens_k": 0,
            "record_stability_info": False,
            "type": "sample",
        },
        (
            {"request_id": "r", "sample_sequence_ids": ["q"]},
            ta.Promise(request_id="r", sample_sequence_ids=("q",)),
        ),
    ),
}
KEYED = {
    "/create_session",
    "/create_model",
    "/optim_step",
    "/save_weights",
    "/save_weights_for_sampler",
    "/load_weights",
    "/create_sampling_session",
    "/asample",
}


@pytest.mark.parametrize("row", ROWS)
async def test_each_asks_and_understands(row: str):
    send, body, (reply, value) = ROWS[row]
    method, _, path = row.partition(" ")
    async with scripted(Answer(reply, 202)) as (api, script):
        assert await send(api) == value
    (asked,) = script.asked
    assert (asked.method, asked.path.replace("/../", "%2F..%2F")) == (method, f"/services/prod/api/v1{path}")
    assert (asked.json if asked.body else None) == body
    assert asked.headers.get("x-idempotency-key") == ("key" if path in KEYED else None)
    assert asked.headers.get("x-tinker-sampling-backpressure") == ("1" if path == "/asample" else None)


async def test_forward_backward_goes_out_in_protobuf_as_it_was_captured():
    """WIRE 14: one datum, 119 bytes."""
    request = ta.ForwardBackwardRequest(model_id="sess-1:train:0", seq_id=1, data=(DATUM,), loss_fn="cross_entropy")
    async with scripted(Answer({"request_id": "r-1"})) as (api, script):
        assert await training.forward_backward(api, request, key="key") == PROMISE[1]
    (asked,) = script.asked
    assert asked.path.endswith("/api/v1/forward_backward")
    assert asked.headers["content-type"] == "application/x-protobuf"
    assert asked.headers["accept"] == "application/json"
    assert asked.headers["x-idempotency-key"] == "key"
    assert decode_forward_backward_request(asked.body) == request
    schema = pytest.importorskip("tinker.proto.tinker_public_pb2")
    theirs = schema.ForwardBackwardRequest.FromString(asked.body)
    assert theirs.data[0].model_input[0].encoded_text.tokens == np.array([1, 2], "<i4").tobytes()
    assert theirs.data[0].loss_fn_inputs["target_tokens"].dense == np.array([2, 3], "<i8").tobytes()
    assert len(theirs.SerializeToString()) == len(asked.body) == 119


async def test_a_server_without_client_config_gets_the_defaults_and_another_failure_is_one():
    async with scripted(Answer({"detail": "Not Found"}, 404)) as (api, _):
        assert await service.client_config(api, "0.38.0") == ta.ClientConfig()
        with pytest.raises(NotFoundError):
            await service.get_server_capabilities(api)


async def test_an_ended_session_is_told_from_a_sick_server():
    async with scripted(Answer({"detail": "finished"}, 410)) as (api, _):
        with pytest.raises(GoneError):
            await sessions.session_heartbeat(api, "s")
