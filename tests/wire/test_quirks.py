"""What SkyRL, TuFT and hatchery do differently from the hosted service, and that every client gets along with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import trio

from tests.clients.scenario import batch
from tests.wire.quirky import OUTPUT, SAMPLE, Quirk, Server, against
from tests.wire.scripted import Answer, Asked
from tinker_actors.clients import SamplingClient, TrainingClient
from tinker_actors.codec.forward_backward import decode_forward_backward_request
from tinker_actors.codec.forward_backward_output import encode_forward_backward_output
from tinker_actors.codec.samples import encode_sample_response
from tinker_actors.errors import (
    APIResponseError,
    BadRequestError,
    ConflictError,
    InvalidInput,
    LaneStopped,
    OutageError,
    RequestFailedError,
    TinkerError,
    UnprocessableEntityError,
)
from tinker_actors.runtime import Runtime
from tinker_actors.types import (
    AdamParams,
    ForwardBackwardOutput,
    ModelInput,
    SampledSequence,
    SampleResponse,
    SamplingParams,
)
from tinker_actors.wire.api import JSON, PROTOBUF

PROMPT = ModelInput.from_ints([1, 2])
RESULTS: dict[str, Any] = {
    "create_model": {"model_id": "model"},
    "forward_backward": OUTPUT,
    "optim_step": {},
    "create_sampling_session": {"sampling_session_id": "x"},
    "asample": SAMPLE,
}
NOT_FOUND = Answer({"detail": "Not Found"}, 404)
TRY_AGAIN = Answer({"type": "try_again", "request_id": "r", "queue_state": "active"})


async def training(runtime: Runtime) -> TrainingClient:
    return await (await runtime.create_service_client()).create_lora_training_client("a/b", 2)


async def sampling(runtime: Runtime) -> SamplingClient:
    return await (await runtime.create_service_client()).create_sampling_client(base_model="a/b")


async def one_step(runtime: Runtime) -> ForwardBackwardOutput:
    client = await training(runtime)
    step = await client.forward_backward(batch(1))
    update = await client.optim_step(AdamParams())
    await update
    return await step


async def one_sample(runtime: Runtime) -> SampleResponse:
    return await (await sampling(runtime)).sample(PROMPT, 1, SamplingParams(max_tokens=1))


def test_no_configuration_and_no_end_of_sessions_is_nothing_to_speak_of(caplog: pytest.LogCaptureFixture):
    async def story(runtime: Runtime) -> float:
        service = await runtime.create_service_client()
        await service.create_lora_training_client("a/b", 2)
        await service.aclose()
        return (await one_step(runtime)).metrics["loss:sum"]

    quirks = {"client/config": NOT_FOUND, "client/dynamic_config": NOT_FOUND, "sessions/session/finish": NOT_FOUND}
    loss, server = against(quirks, story)

    assert loss == 1.0
    assert server.times("sessions/session/finish") == 2
    assert not caplog.records


@pytest.mark.parametrize("status", [200, 201, 202])
def test_any_status_of_success_will_do(status: int):
    async def created(server: Server, asked: Asked) -> Answer:
        results = {"create_session": {"session_id": "s"}, "create_sampling_session": {"sampling_session_id": "x"}}
        return Answer(results.get(asked.path, {"request_id": f"{asked.path}-0"}), status)

    async def story(runtime: Runtime) -> tuple[float, int]:
        return (await one_step(runtime)).metrics["loss:sum"], len((await one_sample(runtime)).sequences)

    names = ("create_session", "create_model", "forward_backward", "optim_step", "create_sampling_session", "asample")
    assert against(dict.fromkeys(names, created), story)[0] == (1.0, 1)


def test_a_promise_of_a_sampling_session_is_waited_for():
    quirks: dict[str, Quirk] = {
        "create_sampling_session": Answer({"request_id": "create_sampling_session-7"}, 202),
        "result of create_sampling_session": [TRY_AGAIN, Answer({"sampling_session_id": "x"})],
    }
    sample, server = against(quirks, one_sample)

    assert len(sample.sequences) == 1
    assert server.all("asample")[0].json["sampling_session_id"] == "x"
    assert [asked.json["request_id"] for asked in server.all("retrieve_future")][:2] == [
        "create_sampling_session-7"
    ] * 2


def test_a_sampling_session_that_fails_is_told():
    quirks = {
        "create_sampling_session": Answer({"request_id": "create_sampling_session-7"}),
        "result of create_sampling_session": Answer({"error": "no such weights", "category": "user_error"}),
    }

    async def story(runtime: Runtime) -> None:
        with pytest.raises(RequestFailedError, match="no such weights"):
            await one_sample(runtime)

    against(quirks, story)


def test_samples_without_ids_are_samples():
    sample, server = against({}, one_sample)
    assert [sequence.sequence_id for sequence in sample.sequences] == [None]
    assert "model_path" not in server.all("create_sampling_session")[0].json


def test_ids_of_samples_are_kept_where_there_are_any():
    sample, _ = against({"asample": Answer({"request_id": "asample-1", "sample_sequence_ids": ["q"]})}, one_sample)
    assert [sequence.sequence_id for sequence in sample.sequences] == ["q"]


@pytest.mark.parametrize("status", [415, 422])
def test_a_server_of_json_alone(status: int):
    async def json_only(server: Server, asked: Asked) -> Answer:
        if asked.headers["content-type"] != JSON:
            return Answer({"detail": "JSON, please"}, status)
        return Answer({"request_id": "forward_backward-1"})

    async def story(runtime: Runtime) -> list[float]:
        client = await training(runtime)
        return [(await (await client.forward_backward(batch(1)))).metrics["loss:sum"] for _ in range(2)]

    losses, server = against({"forward_backward": json_only}, story)

    assert losses == [1.0, 1.0]
    forms = [(asked.headers["content-type"]) for asked in server.all("forward_backward")]
    assert forms == [PROTOBUF, JSON, JSON]
    assert [asked.json["seq_id"] for asked in server.all("forward_backward")[1:]] == [1, 2]


def test_a_server_of_protobuf_alone():
    async def protobuf_only(server: Server, asked: Asked) -> Answer:
        proto = asked.headers["content-type"] == PROTOBUF
        return Answer({"request_id": "forward_backward-1"}) if proto else Answer({"detail": "no"}, 415)

    output = ForwardBackwardOutput(loss_fn_output_type="x", loss_fn_outputs=({},), metrics={"loss:sum": 2.0})
    sample = SampleResponse(sequences=(SampledSequence(stop_reason="stop", tokens=np.array([5], np.int32)),))
    head = {"content-type": PROTOBUF}
    quirks = {
        "forward_backward": protobuf_only,
        "result of forward_backward": Answer(encode_forward_backward_output(output), headers=head),
        "result of asample": Answer(encode_sample_response(sample), headers=head),
    }

    async def story(runtime: Runtime) -> tuple[float, list[int]]:
        loss = (await one_step(runtime)).metrics["loss:sum"]
        return loss, list((await one_sample(runtime)).sequences[0].tokens)

    assert against(quirks, story)[0] == (2.0, [5])


@pytest.mark.parametrize("path", ["tinker://model_1/last", "tinker://mdl_1/checkpoints/last"])
def test_sampler_paths_of_other_forms_lead_back_to_their_server(path: str):
    async def story(runtime: Runtime) -> str | None:
        service = await runtime.create_service_client()
        client = await service.create_lora_training_client("a/b", 2)
        saved = await (await client.save_weights_for_sampler("last"))
        assert saved.path is not None
        sampler = await service.create_sampling_client(model_path=saved.path)
        assert len((await sampler.sample(PROMPT, 1)).sequences) == 1
        return sampler.model_path

    given, server = against({"result of save_weights_for_sampler": Answer({"path": path})}, story)

    assert given == path
    (asked,) = server.all("create_sampling_session")
    assert asked.json["model_path"] == path
    assert "base_model" not in asked.json  # one server takes just one of the two


@pytest.mark.parametrize(
    "path",
    [
        "tinker://",
        "tinker://run",
        "tinker://run/weights/a",
        "run/a",
        "tinker://r/../a",
        "tinker://r/a/b/c",
        "tinker://r//a",
        "tinker://r/a b",
    ],
)
def test_a_path_that_can_lead_to_no_sampler_weights_is_never_sent(path: str):
    async def story(runtime: Runtime) -> None:
        service = await runtime.create_service_client()
        with pytest.raises(InvalidInput, match="model_path"):
            await service.create_sampling_client(model_path=path)

    assert not against({}, story)[1].times("create_sampling_session")


@pytest.mark.parametrize(
    "metrics", [{}, {"total_loss": 3.0}, {"actor/num_micro_batches": 2.0, "loss:sum": 1.0}, {"a:b:c": 4.0}]
)
def test_metrics_of_any_name_or_none_are_kept_as_they_are(metrics: dict[str, float]):
    result = Answer(OUTPUT | {"metrics": metrics, "loss_fn_output_type": "scalar", "later": [1]})
    output, _ = against({"result of forward_backward": result}, one_step)
    assert output.metrics == metrics


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (400, BadRequestError, {"detail": "the request failed"}),
        (422, UnprocessableEntityError, {"detail": "the request failed"}),
        (
            200,
            RequestFailedError,
            {"type": "request_failed", "error": "the request failed", "category": "user_error"},
        ),
    ],
)
def test_a_failure_in_any_form_fails_its_operation_alone(status: int, kind: type[TinkerError], body: Any):
    async def story(runtime: Runtime) -> int:
        client = await training(runtime)
        failing = await client.forward_backward(batch(1))
        update = await client.optim_step(AdamParams())
        with pytest.raises(kind, match="the request failed"):
            await failing
        await update
        return runtime.counters()["operations_done"]

    done, server = against({"result of forward_backward": Answer(body, status)}, story)

    assert done == 1
    failed = [a for a in server.all("retrieve_future") if a.json["request_id"].startswith("forward_backward")]
    assert len(failed) == (1 if status == 200 else 4)  # others may be a proxy's, and are asked for three times more


@pytest.mark.parametrize("held", [300.0, 600.0])
def test_polls_that_are_held_for_longer_than_the_client_waits_are_no_outage(held: float):
    began: list[float] = []

    async def hold(server: Server, asked: Asked) -> Answer:
        began.append(began[0] if began else trio.current_time())
        left = began[0] + 900.0 - trio.current_time()
        await trio.sleep(min(held, max(0.0, left)))
        return Answer(OUTPUT) if left <= held else Answer({"detail": "not yet"}, 408)

    output, server = against({"result of forward_backward": hold}, one_step, limit=2000.0)

    assert output.metrics == {"loss:sum": 1.0}
    polls = [asked for asked in server.all("retrieve_future") if "forward_backward" in asked.json["request_id"]]
    assert len(polls) <= 30  # and they are no storm either


def test_a_state_that_can_not_be_loaded_into_a_new_model_either_says_why():
    async def first_only(server: Server, asked: Asked) -> Answer:
        if asked.json.get("seq_id", 1) > 1:
            return Answer({"detail": "only as the first request of a model"}, 400)
        if "session_id" in asked.json:
            return Answer({"detail": "model_id is missing"}, 422)
        return Answer({"request_id": "load_weights-1"})

    broken = Answer({"error": "the file is damaged", "category": "user"})
    quirks: dict[str, Quirk] = {
        "load_weights": first_only,
        "result of load_weights": broken,
        "weights_info": Answer({"base_model": "a/b", "is_lora": True, "lora_rank": 2}),
    }

    async def story(runtime: Runtime) -> Any:
        client = await training(runtime)
        await (await client.optim_step(AdamParams()))
        with pytest.raises(RequestFailedError, match="the file is damaged"):
            await (await client.load_state("tinker://r/weights/kept"))
        return await (await client.optim_step(AdamParams()))

    against(quirks, story)


def test_a_server_that_is_silent_altogether_is_an_outage():
    async def silent(server: Server, asked: Asked) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    quirks: dict[str, Quirk] = {"result of forward_backward": silent, "session_heartbeat": silent}

    async def story(runtime: Runtime) -> None:
        client = await training(runtime)
        step = await client.forward_backward(batch(1))
        with pytest.raises(OutageError, match="no usable answer"):
            await step

    against(quirks, story, limit=2000.0)


def test_a_model_that_is_loaded_before_it_is_promised_gets_the_time():
    async def slow(server: Server, asked: Asked) -> Answer:
        await trio.sleep(100.0)
        return Answer({"request_id": "create_model-1"})

    output, server = against({"create_model": slow}, one_step)

    assert output.metrics
    assert [a.headers["x-stainless-read-timeout"] for a in server.all("create_model")] == ["60", "120"]
    assert len({asked.headers["x-idempotency-key"] for asked in server.all("create_model")}) == 1


EXISTS = Answer({"detail": "checkpoint a exists"}, 409)
PATHS = {"save_weights": "tinker://model/weights/a", "save_weights_for_sampler": "tinker://model/sampler_weights/a"}


def saving(kind: str) -> Callable[[Runtime], Awaitable[str]]:
    """The path of a named save, or why there is none; an update behind it goes on."""

    async def story(runtime: Runtime) -> str:
        client = await training(runtime)
        saved = await (client.save_state("a") if kind == "save_weights" else client.save_weights_for_sampler("a"))
        update = await client.optim_step(AdamParams())
        try:
            path = (await saved).path
        except ConflictError as error:
            path = error.detail
        await update
        assert path is not None
        return path

    return story


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("polled", [False, True])
@pytest.mark.parametrize("lost", [False, True])
def test_a_save_that_is_refused_as_existing(lost: bool, polled: bool, kind: str):
    promise = Answer({"request_id": f"{kind}-1"})
    first = [msgspec.structs.replace(promise, cut=True)] if lost else []
    quirks: dict[str, Quirk] = {kind: [*first, EXISTS]}
    if polled:
        quirks = {kind: [*first, promise], f"result of {kind}": EXISTS}
    # of the client's own making after its first reply was lost: it is there, and done; otherwise another's
    assert against(quirks, saving(kind))[0] == (PATHS[kind] if lost else "checkpoint a exists")


def checkpoint(path: str, kind: str = "sampler") -> dict[str, Any]:
    return {"checkpoint_id": "a", "checkpoint_type": kind, "time": "2026-01-01T00:00:00Z", "tinker_path": path}


@pytest.mark.parametrize(
    ("answer", "path"),
    [
        (
            Answer({"checkpoints": [checkpoint("tinker://model/b"), checkpoint("tinker://model/a")]}),
            "tinker://model/a",
        ),
        (Answer({"checkpoints": [checkpoint("tinker://model/checkpoints/a")]}), "tinker://model/checkpoints/a"),
        (Answer({"checkpoints": [checkpoint("tinker://model/a", "training")]}), None),
        (Answer({"checkpoints": [checkpoint("tinker://model/weights/a")]}), None),
        (Answer({"checkpoints": [checkpoint("file:///srv/a")]}), None),
        (NOT_FOUND, None),
        (Answer({"detail": "busy"}, 503), None),
        (Answer(b"no JSON"), None),
    ],
)
def test_a_save_that_was_done_lies_where_its_server_lists_it(answer: Answer, path: str | None):
    lost = Answer({"request_id": "save_weights_for_sampler-1"}, cut=True)
    quirks = {"save_weights_for_sampler": [lost, EXISTS], "training_runs/model/checkpoints": answer}
    given, server = against(quirks, saving("save_weights_for_sampler"))
    assert given == (path or PATHS["save_weights_for_sampler"])
    assert server.times("training_runs/model/checkpoints") == 1


def test_a_listing_that_hangs_keeps_no_lane_waiting():
    async def hang(server: Server, asked: Asked) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    lost = Answer({"request_id": "save_weights-1"}, cut=True)
    quirks = {"save_weights": [lost, EXISTS], "training_runs/model/checkpoints": hang}
    assert against(quirks, saving("save_weights"), limit=40.0)[0] == PATHS["save_weights"]


@pytest.mark.parametrize("due", [1, 2])
def test_a_save_out_of_turn_is_no_save_that_exists(due: int):
    """It has number 1: where 2 is due, it had arrived. One that knows repeated requests should not say so of them."""

    async def story(runtime: Runtime) -> str | None:
        client = await training(runtime)
        saved = await client.save_state("a")
        if due == 2:
            return (await saved).path
        with pytest.raises(ConflictError, match="Sequence conflict"):
            await saved
        with pytest.raises(LaneStopped):
            await client.optim_step(AdamParams())
        return None

    lost = Answer({"request_id": "save_weights-1"}, cut=True)
    refused = Answer({"detail": f"Sequence conflict: expected {due}, got 1"}, 409)
    path, _ = against({"save_weights": [lost, refused]}, story, server_class="ordered" if due == 2 else "dedup")
    assert path == (PATHS["save_weights"] if due == 2 else None)


def test_a_single_stop_string_is_sent_as_a_list():
    async def story(runtime: Runtime) -> None:
        sampler = await sampling(runtime)
        for stop in ("END", [], None):
            await sampler.sample(PROMPT, 1, SamplingParams(max_tokens=1, stop=stop))

    sent = [asked.json["sampling_params"].get("stop", "absent") for asked in against({}, story)[1].all("asample")]
    assert sent == [["END"], [], "absent"]


@pytest.mark.parametrize("count", [0, 2])
def test_a_wrong_number_of_outputs_is_an_error_of_the_servers(count: int):
    async def story(runtime: Runtime) -> None:
        client = await training(runtime)
        step = await client.forward_backward(batch(1))
        update = await client.optim_step(AdamParams())
        with pytest.raises(APIResponseError, match=f"{count} loss_fn_outputs for 1 datums"):
            await step
        await update
        with pytest.raises(APIResponseError, match=f"{count} sequences where 1"):
            await one_sample(runtime)

    outputs = Answer(OUTPUT | {"loss_fn_outputs": [{}] * count})
    samples = Answer({"sequences": SAMPLE["sequences"] * count})
    against({"result of forward_backward": outputs, "result of asample": samples}, story)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("create_session", {"session_id": ""}),
        ("create_sampling_session", {"sampling_session_id": ""}),
        ("result of create_model", {"model_id": ""}),
        ("create_model", {"request_id": ""}),
        ("forward_backward", {"request_id": ""}),
        ("asample", {"request_id": ""}),
    ],
)
def test_an_empty_name_is_an_error_of_the_servers(name: str, answer: Any):
    async def story(runtime: Runtime) -> None:
        with pytest.raises(TinkerError, match=r"can't be read.*length >= 1"):
            await (one_sample if "sampl" in name else one_step)(runtime)

    against({name: Answer(answer)}, story, limit=2000.0)


def test_repeats_say_which_try_they_are():
    unwell = Answer({"detail": "busy"}, 503)
    calls = ("client/config", "create_session", "create_model", "get_info", "create_sampling_session", "asample",
             "get_server_capabilities")  # fmt: skip
    promised: dict[str, list[Answer]] = {
        "create_model": [unwell, Answer({"request_id": "create_model-1"})],
        "asample": [unwell, Answer({"request_id": "asample-1"})],
        "create_session": [unwell, Answer({"session_id": "s"})],
        "create_sampling_session": [unwell, Answer({"sampling_session_id": "s"})],
        "get_info": [unwell, Answer({"model_id": "model", "model_data": {}})],
        "get_server_capabilities": [unwell, Answer({"supported_models": []})],
        "client/config": [unwell, Answer({})],
        # the first is refused for good, so that its number has to be filled
        "forward_backward": [Answer({"detail": "no"}, 400), unwell, Answer({"request_id": "forward_backward-1"})],
    }

    async def story(runtime: Runtime) -> None:
        service = await runtime.create_service_client()
        await service.get_server_capabilities()
        client = await service.create_lora_training_client("a/b", 2)
        refused = await client.forward_backward(batch(1))
        update = await client.optim_step(AdamParams())
        with pytest.raises(BadRequestError):
            await refused
        await update
        await one_sample(runtime)

    server = against(promised, story)[1]

    counts = {name: [asked.headers["x-stainless-retry-count"] for asked in server.all(name)] for name in calls}
    assert {name: counts[name][:2] for name in calls} == {name: ["0", "1"] for name in calls}
    filled = [asked.headers["x-stainless-retry-count"] for asked in server.all("forward_backward")]
    assert filled == ["0", "0", "1"]


def test_the_server_is_told_once_how_long_each_promise_took():
    promised = ("create_model", "forward_backward", "optim_step", "create_sampling_session", "asample")

    async def slow(server: Server, asked: Asked) -> Answer:
        await trio.sleep(3.0)
        return Answer({"request_id": f"{asked.path}-1"})

    later = {f"result of {name}": [TRY_AGAIN, Answer(result)] for name, result in RESULTS.items()}
    unwell = {"asample": [Answer({"detail": "busy"}, 503), Answer({"request_id": "asample-1"})]}

    async def story(runtime: Runtime) -> None:
        await one_step(runtime)
        await one_sample(runtime)

    server = against(dict.fromkeys(promised, slow) | later | unwell, story)[1]

    for name in promised:
        polls = [a for a in server.all("retrieve_future") if a.json["request_id"].startswith(f"{name}-")]
        told = [asked.headers.get("x-tinker-create-promise-roundtrip-time") for asked in polls]
        assert [asked.headers["x-tinker-request-iteration"] for asked in polls] == ["0", "1"]
        assert told[0] is not None
        assert told[1] is None
        assert (0.2 if name == "asample" else 3.0) < float(told[0]) < (1.0 if name == "asample" else 3.1)


@pytest.mark.parametrize("parallel", [False, True])
def test_a_batch_of_1025_is_two_requests_numbered_in_order(parallel: bool):
    sent: list[int] = []

    async def take(server: Server, asked: Asked) -> Answer:
        request = decode_forward_backward_request(asked.body)
        sent.append(request.seq_id)
        return Answer({"request_id": f"forward_backward-{len(request.data)}"})

    async def give(server: Server, asked: Asked) -> Answer:
        count = int(asked.json["request_id"].rpartition("-")[2])
        return Answer(OUTPUT | {"loss_fn_outputs": OUTPUT["loss_fn_outputs"] * count})

    async def story(runtime: Runtime) -> ForwardBackwardOutput:
        client = await training(runtime)
        return await (await client.forward_backward(batch(1) * 1025))

    quirks: dict[str, Quirk] = {"forward_backward": take, "result of forward_backward": give}
    if not parallel:
        quirks["client/config"] = Answer({"parallel_fwdbwd_chunks": False})
    output, _ = against(quirks, story)

    assert sent == ([2, 1] if parallel else [1, 2])  # where the server puts them in order, the first comes last
    assert len(output.loss_fn_outputs) == 1025
    assert output.metrics == {"loss:sum": 2.0}
