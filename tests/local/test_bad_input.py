from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from supervision import ActorCrashed
from tests.local.harness import PROTOBUF, TINY, Caller, Stage, create_body, datum, open_stage, play, sample_body
from tinker_actors.codec.compression import compress
from tinker_actors.codec.forward_backward import encode_forward_backward_request
from tinker_actors.codec.protobuf import length_field, text_field, varint, varint_field
from tinker_actors.codec.samples import decode_sample_response
from tinker_actors.errors import InvalidInput
from tinker_actors.local.endpoints.table import ENDPOINTS
from tinker_actors.local.settings import ServerSettings
from tinker_actors.types import Datum, ForwardBackwardRequest, ModelInput


def forward_body(model_id: str, seq_id: int = 1) -> bytes:
    request = ForwardBackwardRequest(model_id=model_id, seq_id=seq_id, data=(datum(1),), loss_fn="cross_entropy")
    return b"".join(encode_forward_backward_request(request))


@pytest.mark.parametrize("key", [None, "", "sk-1", "TML-1"])
def test_a_missing_or_malformed_key(key: str | None):
    async def scenario(stage: Stage) -> None:
        caller = Caller(stage.network.transport(), key=key)
        for endpoint in ENDPOINTS:
            answer = await caller.send(endpoint.method, endpoint.path, {})
            assert (answer.status != 401) == endpoint.open
            if not endpoint.open:
                assert "API key" in answer.detail
                assert key is None or key == "" or key not in answer.detail

    play(scenario)


def test_only_known_keys_where_keys_are_given():
    async def scenario(stage: Stage) -> None:
        for key, status in (("tml-right", 200), ("own", 200), ("tml-wrong", 401), ("tml-righ", 401), ("tml-é", 401)):
            try:
                answer = await Caller(stage.network.transport(), key=key).get("/get_server_capabilities")
            except UnicodeEncodeError:
                continue
            assert answer.status == status
        bearer = Caller(stage.network.transport(), key=None)
        headers = {"authorization": "Bearer tml-right"}
        assert (await bearer.send("GET", "/get_server_capabilities", headers=headers)).status == 200

    play(scenario, api_keys=("tml-right", "own"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base_model": "no/such"}, ("base_model", "no/such", f"Use one of: {TINY}")),
        ({"lora_config": {"rank": 65}}, ("rank", "65", "at most 64")),
        ({"lora_config": {"rank": 0}}, ("rank", "0")),
        ({"lora_config": {"rank": "8"}}, ("rank",)),
        ({"lora_config": {"rank": 8, "train_mlp": False, "train_attn": False, "train_unembed": False}}, ("train_",)),
        ({"model_seq_id": -1}, ("model_seq_id", "-1")),
        ({"optimizer_config": {"type": "dimuon", "version": 1}}, ("optimizer_config", "dimuon")),
        ({"session_id": 5}, ("session_id",)),
        ({"base_model": None}, ("base_model",)),
    ],
)
def test_a_model_that_can_t_be_is_refused_before_anything_is_made(change: Any, words: tuple[str, ...]):
    async def scenario(stage: Stage) -> None:
        answer = await stage.caller.post("/create_model", create_body(await stage.caller.session()) | change)
        assert answer.status in (400, 422)
        assert all(word in answer.detail for word in words), answer.detail
        assert not stage.service.models

    play(scenario, max_rank=64)


def test_data_that_can_t_be_trained_on_is_refused_before_it_is_queued():
    from tinker_actors.types import TensorData

    length = {"target_tokens": [1, 2], "weights": [1.0, 1.0]}
    cases: list[tuple[tuple[Datum, ...], str, str]] = [
        ((), "cross_entropy", "data"),
        ((Datum(ModelInput.from_ints([1, 99]), length),), "cross_entropy", "vocabulary"),
        ((Datum(ModelInput.from_ints([1, 2]), length | {"target_tokens": [1, 99]}),), "cross_entropy", "vocabulary"),
        (
            (Datum(ModelInput.from_ints([1, 2]), length | {"target_tokens": [1, -1]}),),
            "cross_entropy",
            "target_tokens",
        ),
        ((Datum(ModelInput.from_ints([1, 2]), {"target_tokens": [1, 2]}),), "cross_entropy", "weights"),
        ((Datum(ModelInput.from_ints([1, 2]), length),), "importance_sampling", "logprobs"),
        ((Datum(ModelInput.from_ints([1] * 65), {}),), "cross_entropy", "64"),
        ((datum(1),), "no_such_loss", "no_such_loss"),
        (
            (Datum(ModelInput.from_ints([1]), {"target_tokens": TensorData([1.5]), "weights": [1.0]}),),
            "cross_entropy",
            "",
        ),
    ]

    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        for data, loss_fn, word in cases:
            answer = await caller.forward_backward(model_id, 1, data, loss_fn=loss_fn)
            assert answer.status in (400, 422), (data, answer)
            assert word in answer.detail
        await caller.train(model_id, 1)

    play(scenario)


TARGETS = ("target_tokens", np.array([1, 2], "<i8"), [2])
WEIGHTS = ("weights", np.array([1, 1], "<f4"), [2])
HAND_MADE: dict[str, tuple[list[int], tuple[tuple[str, Any, list[int]], ...], str]] = {
    "no tokens": ([], (), "data[1].model_input"),
    "negative token": ([1, -2], (TARGETS, WEIGHTS), "data[1].tokens"),
    "unknown token": ([1, 32], (TARGETS, WEIGHTS), "data[1].model_input"),
    "scalar targets": ([1, 2], (("target_tokens", TARGETS[1][:1], []), WEIGHTS), "data[1].loss_fn_inputs['target_t"),
    "short targets": ([1, 2], (("target_tokens", TARGETS[1][:1], [1]), WEIGHTS), "data[1].loss_fn_inputs['target_t"),
    "fractions": ([1, 2], (("target_tokens", WEIGHTS[1], [2]), WEIGHTS), "data[1].loss_fn_inputs['target_tokens']"),
    "three dimensions": ([1, 2], (("target_tokens", TARGETS[1], [2, 1, 1]), WEIGHTS), "data[1].loss_fn_inputs['tar"),
    "integers": ([1, 2], (TARGETS, ("weights", TARGETS[1], [2])), "data[1].loss_fn_inputs['weights']"),
    "NaN": ([1, 2], (TARGETS, ("weights", np.array([1, np.nan], "<f4"), [2])), "data[1].loss_fn_inputs['weights']"),
    "infinity": ([1, 2], (TARGETS, ("weights", np.array([np.inf, 1], "<f4"), [2])), "data[1].loss_fn_inputs['weigh"),
    "negative shape": ([1, 2], (TARGETS, ("weights", WEIGHTS[1], [-1, -2])), "data[1].loss_fn_inputs['weights']"),
    "vast shape": ([1, 2], (TARGETS, ("weights", WEIGHTS[1], [2**40, 2**40])), "data[1].loss_fn_inputs['weights']"),
    "too few numbers": ([1, 2], (TARGETS, ("weights", WEIGHTS[1], [3])), "data[1].loss_fn_inputs['weights']"),
    "missing": ([1, 2], (TARGETS,), "data[1].loss_fn_inputs: 'weights'"),
    "odd": ([1, 2], (TARGETS, WEIGHTS, ("mask", *WEIGHTS[1:])), "data[1].loss_fn_inputs['mask']"),
    "too long": ([1] * 65, (), "data[1].model_input"),
}


def hand_made(tokens: list[int], tensors: tuple[tuple[str, Any, list[int]], ...]) -> bytes:
    """A datum as no client of ours would make it."""
    text = b"".join(length_field(1, np.asarray(tokens, "<i4").tobytes()))
    content = b"".join(length_field(1, *length_field(1, text)))
    for name, array, shape in tensors:
        dims = length_field(4, b"".join(map(varint, shape)))
        tensor = [*length_field(1, array.tobytes()), varint_field(3, 1 if array.dtype.kind == "f" else 2), *dims]
        content += b"".join(length_field(2, text_field(1, name), *length_field(2, *tensor)))
    return content


@pytest.mark.parametrize("case", HAND_MADE)
def test_what_no_client_of_ours_would_send_is_refused_by_name_and_harms_no_actor(case: str):
    tokens, tensors, field = HAND_MADE[case]

    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        with stage.service.system.events.subscribe(seen.append):
            data = (hand_made([1, 2], (TARGETS, WEIGHTS)), hand_made(tokens, tensors))
            content = text_field(1, model_id) + varint_field(2, 1)
            content += b"".join(b"".join(length_field(3, datum)) for datum in data) + text_field(4, "cross_entropy")
            answer = await caller.post("/forward_backward", content, content_type=PROTOBUF)
            assert answer.status in (400, 422), answer
            assert field in answer.detail
            await caller.train(model_id, 1)
        assert not [event for event in seen if isinstance(event, ActorCrashed)]

    seen: list[object] = []
    play(scenario)


def test_what_shows_only_when_it_is_run_fails_that_operation_alone():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        inputs = {"target_tokens": [1, 2], "logprobs": [-1000.0, -1.0], "advantages": [1.0, 1.0]}
        wild = Datum(ModelInput.from_ints([1, 2]), inputs)
        promise = (await caller.forward_backward(model_id, 1, (wild,), loss_fn="importance_sampling")).ok
        failed = await caller.result(promise["request_id"])
        assert failed["category"] == "user"
        assert "data[0]: its importance_sampling loss" in failed["error"]
        await caller.train(model_id, 2)

    play(scenario)


NUMBERED = [
    ("/create_model", "model_seq_id"),
    ("/optim_step", "seq_id"),
    ("/save_weights", "seq_id"),
    ("/save_weights_for_sampler", "seq_id"),
    ("/save_weights_for_sampler", "sampling_session_seq_id"),
    ("/load_weights", "seq_id"),
    ("/load_weights", "model_seq_id"),
    ("/create_sampling_session", "sampling_session_seq_id"),
    ("/asample", "seq_id"),
]
NO_NUMBERS = (b"9223372036854775808", b"1" + b"0" * 30, b"1" + b"0" * 5000, b"-1", b"-9223372036854775809", b"true")
NO_NUMBERS += (b"1.5", b"2.0", b"1e30", b'"3"', b"[]")


@pytest.mark.parametrize(("path", "field"), NUMBERED)
def test_a_number_that_no_request_can_have_is_refused_by_name(path: str, field: str):
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        sampler = await caller.sampler(session_id)
        load = {"path": f"tinker://{model_id}/weights/b", "optimizer": True}
        place = {"session_id": session_id} if field == "model_seq_id" else {"model_id": model_id}
        await caller.save(model_id, 1, "b")
        bodies: dict[str, Any] = {
            "/create_model": create_body(session_id, 1),
            "/optim_step": {"model_id": model_id, "adam_params": {"learning_rate": 0.1}},
            "/save_weights": {"model_id": model_id, "path": "a"},
            "/save_weights_for_sampler": {"model_id": model_id, "seq_id": 2, "sampling_session_seq_id": 5},
            "/load_weights": load | place,
            "/create_sampling_session": {"session_id": session_id, "base_model": TINY},
            "/asample": sample_body(sampler),
        }
        for written in NO_NUMBERS:
            content = msgspec.json.encode(bodies[path] | {field: "?"}).replace(b'"?"', written)
            answer = await caller.post(path, content)
            assert answer.status in (400, 422), (written[:40], answer)
            assert field in answer.detail
            assert len(answer.detail) < 200
        assert list(stage.service.models) == [model_id]
        await caller.train(model_id, 2)
        assert "sequences" in await caller.sample(sampler, 0)

    play(scenario)


def test_a_seq_id_of_protobuf_is_held_to_the_same():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        for seq_id in (0, 2**63, 2**64 - 1):
            body = forward_body(model_id) + varint_field(2, seq_id)  # of one field the last counts
            answer = await caller.post("/forward_backward", body, content_type=PROTOBUF)
            assert answer.status == 400
            assert "seq_id" in answer.detail
        await caller.train(model_id, 1)

    play(scenario)


def test_a_datum_of_another_length_than_its_targets_is_refused():
    async def scenario(stage: Stage) -> None:
        model_id = await stage.caller.model()
        body = forward_body(model_id)
        tokens = datum(1).model_input.to_array()
        short = body.replace(b"\x0a\x14" + tokens.tobytes(), b"\x0a\x10" + tokens[:4].tobytes())
        # the lengths of the enclosing messages shrink with it
        for outer in (b"\x0a\x16", b"\x0a\x18"):
            short = short.replace(outer, outer[:1] + bytes([outer[1] - 4]), 1)
        answer = await stage.caller.post("/forward_backward", short, content_type=PROTOBUF)
        assert answer.status in (400, 422)
        await stage.caller.train(model_id, 1)

    play(scenario)


@pytest.mark.parametrize("learning_rate", [None, -1.0, "0.1", 1e400])
def test_a_learning_rate_that_is_none_is_refused(learning_rate: Any):
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        answer = await caller.optim_step(model_id, 1, learning_rate)
        assert answer.status == 422
        assert "learning_rate" in answer.detail
        body = msgspec.json.encode({"model_id": model_id, "seq_id": 1, "adam_params": {}})
        answer = await caller.post("/optim_step", body.replace(b"{}", b'{"learning_rate": NaN}'))
        assert answer.status == 422
        for missing in ({"model_id": model_id, "seq_id": 1}, {"model_id": model_id, "adam_params": {}}):
            answer = await caller.post("/optim_step", missing)
            assert answer.status in (400, 422)
        await caller.train(model_id, 1)

    play(scenario)


@pytest.mark.parametrize("ttl_seconds", [0, -1, 2**40, 2**63, 10**30])
def test_a_time_to_live_that_no_date_can_hold_is_refused(ttl_seconds: int):
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        body = {"model_id": model_id, "seq_id": 1, "path": "name", "ttl_seconds": ttl_seconds}
        for path in ("/save_weights", "/save_weights_for_sampler"):
            answer = await caller.post(path, body)
            assert answer.status == 400
            assert "ttl_seconds" in answer.detail
        await caller.train(model_id, 1)

    play(scenario)


def text_of(*tokens: int) -> Any:
    return {"chunks": [{"tokens": list(tokens), "type": "encoded_text"}]}


IMAGE = {"data": "aGk=", "format": "png", "expected_tokens": 3, "type": "image"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"num_samples": 0}, "num_samples"),
        ({"num_samples": 10**6}, "num_samples"),
        ({"prompt": {"chunks": []}}, "prompt"),
        ({"prompt": text_of(99)}, "prompt"),
        ({"prompt": text_of(-1)}, "tokens"),
        ({"prompt": text_of(*[1] * 64)}, "prompt"),
        ({"prompt": {"chunks": [IMAGE | {"data": ""}]}}, "ImageChunk.data"),
        ({"prompt": {"chunks": [IMAGE]}}, "prompt"),
        ({"sampling_params": {"max_tokens": 0}}, "max_tokens"),
        ({"sampling_params": {"temperature": -1}}, "temperature"),
        ({"sampling_params": {"temperature": None}}, "temperature"),
        ({"sampling_params": {"top_p": 0}}, "top_p"),
        ({"sampling_params": {"top_k": 0}}, "top_k"),
        ({"sampling_params": {"stop": ["a", 1]}}, "stop"),
        ({"sampling_params": {"stop": [99]}}, "stop"),
        ({"sampling_params": {"seed": "x"}}, "seed"),
        ({"sampling_params": {"seed": 2**70}}, "seed"),
        ({"topk_prompt_logprobs": -1}, "topk_prompt_logprobs"),
        ({"topk_sample_logprobs": 99}, "topk_sample_logprobs"),
        ({"prompt_alt_tokens_k": -1}, "prompt_alt_tokens_k"),
        ({"prompt_logprobs_last_n": 3}, "prompt_logprobs_last_n"),
        ({"target_prompt_logprobs": {"data": [1], "dtype": "int64"}}, "target_prompt_logprobs"),
        ({"seq_id": -1}, "seq_id"),
        ({"seq_id": None}, "seq_id"),
        ({"sampling_session_id": None}, "sampling_session_id"),
    ],
)
def test_a_sample_that_can_t_be_is_refused_by_name_before_it_is_queued(change: Any, field: str):
    async def scenario(stage: Stage) -> None:
        sampler = await stage.caller.sampler(await stage.caller.session())
        answer = await stage.caller.post("/asample", sample_body(sampler) | change)
        assert answer.status in (400, 422), answer
        assert field in answer.detail.partition(". ")[0]
        assert "sequences" in await stage.caller.sample(sampler, 0)

    play(scenario)


def test_what_is_asked_of_a_prompt_travels_as_json_and_as_protobuf():
    asked_for = {
        "prompt_logprobs_last_n": 1,
        "prompt_alt_tokens_k": 2,
        "target_prompt_logprobs": {"data": [4, -1], "dtype": "int64", "shape": [2, 1]},
    }

    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        sampler = await caller.sampler(await caller.session())
        request_id = (await caller.post("/asample", sample_body(sampler) | asked_for)).ok["request_id"]
        plain = await caller.result(request_id)
        packed = decode_sample_response((await caller.wait(request_id, accept=PROTOBUF)).content)
        assert plain["prompt_logprobs"][:2] == [None, None]
        assert plain["target_prompt_logprobs"]["data"][1] == 0.0
        assert plain["prompt_alt_tokens"]["tokens"]["shape"] == [2, 2]
        assert packed.target_prompt_logprobs is not None
        assert packed.prompt_alt_tokens is not None
        assert packed.target_prompt_logprobs.tolist() == plain["target_prompt_logprobs"]["data"]
        assert packed.prompt_alt_tokens.tokens.tolist() == plain["prompt_alt_tokens"]["tokens"]["data"]

    play(scenario)


def test_bodies_too_long_and_bombs():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        body = forward_body(model_id)
        packed = compress(body, "zstd")
        first = (await caller.post("/forward_backward", packed, content_type=PROTOBUF, content_encoding="zstd")).ok
        assert (await caller.post("/forward_backward", body, content_type=PROTOBUF)).ok == first
        bomb = compress(bytes(5_000_000), "zstd")
        assert len(bomb) < 2000
        for content, encoding, status in (
            (bytes(20_001), None, 413),
            (bomb, "zstd", 422),
            (packed[:-3], "zstd", 422),
            (body, "zstd", 422),
            (body, "br", 422),
        ):
            headers = {"content-type": PROTOBUF} | ({"content-encoding": encoding} if encoding else {})
            answer = await caller.send("POST", "/forward_backward", content, headers=headers)
            assert answer.status == status
            assert answer.detail
        assert (await caller.post("/forward_backward", b"{}")).status == 422
        answer = await caller.post("/forward_backward", body, content_type="text/plain")
        assert answer.status == 415
        assert "application/x-protobuf" in answer.detail

    play(scenario, max_body_bytes=20_000)


def test_unknown_paths_and_methods_are_told_in_json():
    async def scenario(stage: Stage) -> None:
        for method, path, status in (("GET", "/nothing", 404), ("GET", "/asample", 405), ("POST", "/healthz", 405)):
            answer = await stage.caller.send(method, path)
            assert answer.status == status
            assert path in answer.detail

    play(scenario)


@pytest.mark.parametrize(
    "wrong",
    [
        {"poll_hold": 31.0},
        {"poll_hold": 0.0},
        {"poll_hold": float("nan")},
        {"max_rank": 0},
        {"session_expiry": -1.0},
        {"api_keys": ("",)},
        {"api_keys": ()},
        {"base_model": ""},
    ],
)
def test_settings_that_can_t_be_served(wrong: Any):
    with pytest.raises(InvalidInput):
        ServerSettings(**wrong)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        *("model_id", "seq_id", "session_id", "model_seq_id", "path", "optimizer", "prompt", "sampling_params"),
        *("adam_params", "lora_config", "request_id", "sampling_session_id", "num_samples", "base_model", "kind"),
        *("ttl_seconds", "sampling_session_seq_id", "user_metadata", "tinker_path", "reason", "tags", "sdk_version"),
    ]
)


def mutate(body: bytes, rng: random.Random) -> bytes:
    data = bytearray(body)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data)) if data else 0
        match rng.randrange(4):
            case 0 if data:
                data[at] = rng.randrange(256)
            case 1 if data:
                del data[at : at + rng.randint(1, 9)]
            case 2:
                data[at:at] = rng.randbytes(rng.randint(1, 5))
            case _:
                data += data[at : at + 20]
    return bytes(data)


@given(seed=st.integers(0, 2**32), changes=st.lists(st.tuples(KEYS, JSON_VALUES), min_size=1, max_size=3))
def test_no_body_makes_an_error_of_the_server_s(seed: int, changes: list[tuple[str, Any]]):
    rng = random.Random(seed)

    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        sampler = await caller.sampler(session_id)
        bodies: dict[str, Any] = {
            "/create_session": {"tags": [], "user_metadata": {}, "sdk_version": "0"},
            "/create_model": create_body(session_id, 1),
            "/optim_step": {"model_id": model_id, "seq_id": 1, "adam_params": {"learning_rate": 0.1}},
            "/save_weights": {"model_id": model_id, "seq_id": 2, "path": "a"},
            "/save_weights_for_sampler": {"model_id": model_id, "seq_id": 3, "sampling_session_seq_id": 5},
            "/load_weights": {"model_id": model_id, "seq_id": 4, "path": "tinker://a/weights/b", "optimizer": True},
            "/asample": sample_body(sampler),
            "/create_sampling_session": {"session_id": session_id, "sampling_session_seq_id": 3, "base_model": TINY},
            "/weights_info": {"tinker_path": "tinker://a/weights/b"},
            "/session_heartbeat": {"session_id": session_id},
            "/get_info": {"model_id": model_id},
            "/client/config": {"sdk_version": "0.38.0"},
            "/telemetry": {"events": [{"event_id": "e", "event": "GENERIC_EVENT"}], "session_id": session_id},
        }
        for path, body in bodies.items():
            for content in (
                msgspec.json.encode(body | {key: _finite(value) for key, value in changes}),
                mutate(msgspec.json.encode(body), rng),
            ):
                answer = await caller.post(path, content)
                assert answer.status < 500, (path, content, answer)
                assert answer.status == 200 or answer.detail
        for n in range(4):
            content = mutate(forward_body(model_id, 5 + n), rng)
            answer = await caller.post("/forward_backward", content, content_type=PROTOBUF)
            assert answer.status < 500, (content, answer)
        # whatever was taken comes to an end, and the server still works
        await caller.train(await caller.start_model(await caller.session()), 1)
        assert len(await caller.digest(model_id)) == 64

    play(scenario, seed=seed, poll_hold=0.1)


def _finite(value: Any) -> Any:
    match value:
        case float() if value != value or value in (float("inf"), float("-inf")):
            return None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list():
            return [_finite(item) for item in value]
        case _:
            return value


async def test_a_client_that_leaves_within_its_body_disturbs_nobody(autojump_clock: object) -> None:
    async with open_stage() as stage:
        messages = iter(
            [
                {"type": "http.request", "body": b'{"tags"', "more_body": True},
                {"type": "http.disconnect"},
            ]
        )
        sent: list[Any] = []

        async def receive() -> Any:
            await trio.lowlevel.checkpoint()
            return next(messages)

        async def send(message: Any) -> None:
            await trio.lowlevel.checkpoint()
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/api/v1/create_session",
            "raw_path": b"/api/v1/create_session",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"x-api-key", b"tml-a")],
            "client": ("127.0.0.1", 1),
            "server": ("server", 80),
        }
        await stage.service.app(scope, receive, send)
        assert sent[0]["status"] == 400
        await stage.caller.session()
