"""Whatever is sent, the server answers, none of it is its own fault, and who trains beside it notices nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervision import ActorCrashed, Event
from tests.local.fuzzing import Call, calls, mutated
from tests.local.harness import PROTOBUF, TINY, Answer, Caller, Stage, create_body, datum, play
from tinker_actors.codec.forward_backward import encode_forward_backward_request
from tinker_actors.codec.json import encode_json
from tinker_actors.types import AdamParams, ForwardBackwardRequest

pytestmark = pytest.mark.hypothesis

EXPIRY = 300.0
PATIENT = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


class Ground(msgspec.Struct):
    """The fuzzer's own things, and those of the one who trains beside it."""

    ids: dict[str, list[str]]
    sound: list[Call]
    bystander: Caller
    model_id: str
    crashes: list[str]


async def prepare(stage: Stage) -> Ground:
    mine, bystander = stage.caller, Caller(stage.network.transport(), key="tml-bystander")
    session_id = await mine.session()
    model_id = await mine.start_model(session_id)
    sampler = await mine.sampler(session_id)
    path = (await mine.save(model_id, 1, "a"))["path"]
    sampler_path = (await mine.save_sampler(model_id, 2, path="b"))["path"]
    future = (await mine.forward_backward(model_id, 3)).ok["request_id"]
    other_session = await bystander.session()
    other = await bystander.start_model(other_session)
    await bystander.train(other, 1, 2)
    other_path = (await bystander.save(other, 5, "theirs"))["path"]
    other_future = (await bystander.forward_backward(other, 6)).ok["request_id"]
    other_sampler = await bystander.sampler(other_session)
    paths = [path, sampler_path, other_path, "tinker://none/weights/a"]
    sessions, models = [session_id, session_id, other_session], [model_id, model_id, other]
    ids = {
        "session_id": sessions,
        "model_id": models,
        "run_id": models,
        "sampling_session_id": [sampler, sampler, other_sampler],
        "request_id": [future, other_future, "req-0-0-1"],
        "path": [*paths, "name", "a"],
        "model_path": paths,
        "tinker_path": paths,
        "source_path": paths,
        "checkpoint_id": ["weights/a", "sampler_weights/b", "weights/theirs", "external_weights/x", "weights"],
        "base_model": [TINY, TINY, "none"],
        "file": ["checkpoint.tar.gz", "adapter_config.json"],
        "sdk_version": ["0.38.0"],
        "type": ["encoded_text", "adamw", "sampling_session", "own", "active", "success"],
    }
    seed = {"temperature": 0.7, "max_tokens": 5, "seed": 1}
    data = {"data": [msgspec.json.decode(encode_json(datum(n))) for n in range(2)], "loss_fn": "cross_entropy"}
    adam = msgspec.to_builtins(AdamParams())
    tokens = {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]}
    sample = {"prompt": tokens, "sampling_session_id": sampler, "sampling_params": seed}
    scores = {"prompt_logprobs": True, "topk_prompt_logprobs": 2, "topk_sample_logprobs": 1, "prompt_alt_tokens_k": 1}
    bodies: list[tuple[str, dict[str, Any]]] = [
        *[("/asample", sample | scores | {"seq_id": n, "num_samples": n + 1}) for n in range(3)],
        ("/stream_sample", sample),
        ("/create_sampling_session", {"session_id": session_id, "sampling_session_seq_id": 1, "model_path": path}),
        ("/create_model", create_body(session_id, 1)),
        ("/load_weights", {"session_id": session_id, "model_seq_id": 2, "path": path, "optimizer": True}),
        ("/copy_weights", {"source_path": path, "destination_project_id": "p", "ttl_seconds": 5000}),
        ("/retrieve_future", {"request_id": future, "allow_metadata_only": True}),
        ("/cancel_future", {"request_id": future}),
        ("/retrieve_futures", {"target": {"type": "sampling_session", "sampling_session_id": sampler}, "timeout": 1}),
        ("/sessions/search", {"user_metadata": {"a": "b"}, "statuses": [{"type": "active"}], "limit": 3}),
        ("/telemetry", {"events": [{"event_id": "e", "event": "SESSION_START"}], "session_id": session_id}),
    ]
    for n in range(4, 9):
        place = {"model_id": model_id, "seq_id": n}
        bodies += [
            ("/forward_backward", place | {"forward_backward_input": data}),
            ("/forward", place | {"forward_input": data}),
            ("/optim_step", place | {"adam_params": adam}),
            ("/save_weights", place | {"path": "c", "ttl_seconds": 5000, "overwrite": True}),
            ("/save_weights_for_sampler", place | {"sampling_session_seq_id": n}),
            ("/save_weights_external", place | {"path": "d"}),
            ("/load_weights", place | {"path": path, "optimizer": True}),
        ]
    crashes: list[str] = []
    return Ground(ids, [Call("POST", where, body) for where, body in bodies], bystander, other, crashes)


async def send(caller: Caller, call: Call) -> Answer:
    headers = {"content-type": "application/json"}
    answer = await caller.send(call.method, call.path, call.body, headers=headers, timeout=200.0)
    check(answer, call)
    return answer


def check(answer: Answer, call: object) -> None:
    assert answer.status < 500, (call, answer)
    if answer.status >= 400:
        assert answer.detail, call


async def aftermath(stage: Stage, ground: Ground, promises: list[str]) -> str:
    """Every promise has its result, and the bystander's training goes on: its weights in the end."""
    bystander = ground.bystander
    await bystander.result((await bystander.optim_step(ground.model_id, 7)).ok["request_id"])
    await bystander.train(ground.model_id, 8, 2)
    digest = await bystander.digest(ground.model_id)
    await trio.sleep(2 * EXPIRY)  # whatever session is left ends, and with it whatever waits
    for request_id in promises:
        answer = await stage.caller.poll(request_id, accept=PROTOBUF)
        check(answer, request_id)
        if answer.status == 200 and answer.headers["content-type"] == "application/json":
            assert answer.json.get("type") != "try_again", answer
            assert "the server crashed" not in str(answer.json.get("error")), answer
    assert ground.crashes == []
    return digest


async def disturbed(stage: Stage, drawn: st.DataObject | None) -> str:
    ground = await prepare(stage)

    def note(event: Event) -> None:
        if isinstance(event, ActorCrashed):
            ground.crashes.append(event.crash.render())

    promises: list[str] = []
    with stage.service.system.events.subscribe(note):
        for call in drawn.draw(calls(ground.ids, ground.sound)) if drawn is not None else []:
            answer = await send(stage.caller, call)
            if answer.status == 200 and answer.headers["content-type"] == "application/json":
                given: Any = answer.json
                if isinstance(given, dict) and isinstance(given.get("request_id"), str):
                    promises.append(given["request_id"])
                    ground.ids["request_id"].append(given["request_id"])
        return await aftermath(stage, ground, promises)


@cache
def undisturbed() -> str:
    return play(lambda stage: disturbed(stage, None), session_expiry=EXPIRY, poll_hold=1.0)


@PATIENT
@given(st.data())
def test_requests_drawn_from_the_document(data: st.DataObject) -> None:
    assert play(lambda stage: disturbed(stage, data), session_expiry=EXPIRY, poll_hold=1.0) == undisturbed()


@PATIENT
@given(st.data())
def test_protobuf_bodies_that_are_damaged(data: st.DataObject) -> None:
    async def scenario(stage: Stage) -> str:
        ground = await prepare(stage)

        def note(event: Event) -> None:
            if isinstance(event, ActorCrashed):
                ground.crashes.append(event.crash.render())

        promises: list[str] = []
        model_id = ground.ids["model_id"][0]
        with stage.service.system.events.subscribe(note):
            for seq_id in range(4, data.draw(st.integers(5, 14))):
                request = ForwardBackwardRequest(
                    model_id=model_id,
                    seq_id=seq_id,
                    data=(datum(seq_id), datum(seq_id + 1)),
                    loss_fn=data.draw(st.sampled_from(["cross_entropy", "ppo", "importance_sampling"])),
                    loss_fn_config={"beta": 0.1},
                )
                body = data.draw(mutated(b"".join(encode_forward_backward_request(request))))
                path = data.draw(st.sampled_from(["/forward_backward", "/forward"]))
                answer = await stage.caller.post(path, body, content_type=PROTOBUF)
                check(answer, body)
                if answer.status == 200:
                    promises.append(answer.json["request_id"])
            return await aftermath(stage, ground, promises)

    assert play(scenario, session_expiry=EXPIRY, poll_hold=1.0) == undisturbed()
