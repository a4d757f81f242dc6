"""What clients send, request by request, and what they refuse before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from tests.clients.odd_server import ask
from tests.clients.scenario import batch, train
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.errors import APIResponseError, APIStatusError, InvalidInput, RequestFailedError, TinkerError
from tinker_actors.runtime import Runtime
from tinker_actors.testing.faults import Delay, DropAfter, DropBefore, Status
from tinker_actors.testing.operations import BASE_MODEL
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, ImageAssetPointerChunk, ImageChunk, ModelInput, SamplingParams

PROMPT = ModelInput.from_ints([1, 2])
PACKAGED = Path(__file__).parents[2] / "tinker_actors" / "local" / "base"


def bodies(asked: list[tuple[str, bytes]], endpoint: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(body) for name, body in asked if name == endpoint]


def test_the_shape_of_an_adapter_is_sent_and_has_defaults():
    async def story(runtime: Runtime) -> None:
        service = await runtime.create_service_client()
        await service.create_lora_training_client("a/b")
        await service.create_lora_training_client("a/b", 3, 7, train_mlp=False, user_metadata={"k": "v"})

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    plain, own = bodies(asked, "create_model")
    lora = plain["lora_config"]
    assert [lora[name] for name in ("rank", "train_mlp", "train_attn", "train_unembed")] == [32, True, True, True]
    assert own["lora_config"] == {
        "rank": 3,
        "seed": 7,
        "train_mlp": False,
        "train_attn": True,
        "train_unembed": True,
    }
    assert (plain["model_seq_id"], own["model_seq_id"], own["user_metadata"]) == (0, 1, {"k": "v"})


def test_clients_of_nothing_are_refused_and_nothing_is_sent():
    async def story(runtime: Runtime) -> None:
        service = await runtime.create_service_client()
        with pytest.raises(InvalidInput, match="all are False"):
            await service.create_lora_training_client("a/b", train_mlp=False, train_attn=False, train_unembed=False)
        for nothing in ("", None, 5):
            with pytest.raises(InvalidInput, match="base_model"):
                await service.create_lora_training_client(nothing)  # pyright: ignore[reportArgumentType]
        with pytest.raises(InvalidInput, match="exactly one"):
            await service.create_sampling_client()
        with pytest.raises(InvalidInput, match="exactly one"):
            await service.create_sampling_client(model_path="tinker://r/sampler_weights/a", base_model="a/b")

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    assert not {"create_model", "create_sampling_session"} & {name for name, _ in asked}


def test_a_service_client_tells_its_configuration():
    async def story(runtime: Runtime) -> None:
        service = await runtime.create_service_client()
        assert (service.config.project_id, service.session_id) == ("proj", "session")

    ask(story, {}, project_id="proj")


def test_clients_can_be_made_at_the_same_time():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        made: list[str] = []

        async def sampler() -> None:
            made.append((await service.create_sampling_client(base_model=BASE_MODEL)).sampling_session_id)

        async def model() -> None:
            made.append((await service.create_lora_training_client(BASE_MODEL, rank=2)).model_id)

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(sampler)
                nursery.start_soon(model)
        assert len(set(made)) == 8

    train(story)


def test_a_caller_that_gives_up_on_a_client_leaves_none():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        with trio.move_on_after(1.0) as scope:
            await service.create_lora_training_client(BASE_MODEL, rank=2)
        assert scope.cancelled_caught
        await trio.sleep(100.0)
        names = str(world.runtime.tree())
        assert "training-0" in names
        assert "training-1" not in names
        other = await service.create_lora_training_client(BASE_MODEL, rank=2)
        assert other.model_id.endswith(":2")  # its number is not given again

    train(story, Delay(path="/create_model", nth=2, seconds=30.0, reply=True))


def test_a_closed_sampler_leaves_no_actor():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        before = str(world.runtime.tree()).count("sampler-")
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        await sampler.sample(PROMPT, 1, SamplingParams(max_tokens=1))
        assert str(world.runtime.tree()).count("sampler-") > before
        await sampler.aclose()
        assert str(world.runtime.tree()).count("sampler-") == before
        assert world.runtime.pending() == ()

    train(story)


def test_a_sample_says_what_was_asked_for_and_counts_from_zero():
    async def story(runtime: Runtime) -> None:
        sampler = await (await runtime.create_service_client()).create_sampling_client(base_model="a/b")
        await sampler.sample(PROMPT, 3, SamplingParams(max_tokens=4, stop=["x"], temperature=0.5))
        await sampler.sample(PROMPT, 3, include_prompt_logprobs=True, topk_prompt_logprobs=2)
        with pytest.raises(TinkerError):
            await sampler.compute_logprobs(PROMPT)  # this server gives none

    asked: list[tuple[str, bytes]] = []
    sequence = {"stop_reason": "length", "tokens": [1], "logprobs": [0.0]}
    ask(story, {"result of asample": {"sequences": [sequence] * 3}}, asked=asked)
    first, second, third = bodies(asked, "asample")
    assert (first["seq_id"], first["num_samples"], first["sampling_session_id"]) == (0, 3, "sampler")
    assert (first["sampling_params"]["stop"], first["sampling_params"]["temperature"]) == (["x"], 0.5)
    assert not first["prompt_logprobs"]
    assert (second["seq_id"], second["prompt_logprobs"], second["topk_prompt_logprobs"]) == (1, True, 2)
    assert (third["prompt_logprobs"], third["sampling_params"]["max_tokens"]) == (True, 1)


def test_an_image_in_a_prompt_need_not_say_its_tokens():
    images = (ImageChunk(b"x", "png"), ImageAssetPointerChunk("s3://bucket/a", "jpeg"))
    prompt = PROMPT.append(images[0]).append(images[1])

    async def story(runtime: Runtime) -> None:
        sampler = await (await runtime.create_service_client()).create_sampling_client(base_model="a/b")
        assert len((await sampler.sample(prompt)).sequences) == 1
        assert await sampler.compute_logprobs(prompt) == (None, -1.0, -2.0)
        with pytest.raises(InvalidInput, match="is empty"):
            await sampler.sample(ModelInput.empty())

    asked: list[tuple[str, bytes]] = []
    sequence = {"stop_reason": "length", "tokens": [1], "logprobs": [0.0]}
    result = {"sequences": [sequence], "prompt_logprobs": [None, -1.0, -2.0]}
    ask(story, {"result of asample": result}, asked=asked)
    chunks = bodies(asked, "asample")[0]["prompt"]["chunks"]
    assert [chunk["type"] for chunk in chunks] == ["encoded_text", "image", "image_asset_pointer"]
    assert not any("expected_tokens" in chunk for chunk in chunks)


def test_checkpoints_are_saved_under_their_names_for_their_time():
    async def story(runtime: Runtime) -> None:
        client = await (await runtime.create_service_client()).create_lora_training_client("a/b", 2)
        saved = await (await client.save_state("kept", ttl_seconds=60))
        await (await client.save_weights_for_sampler("mine", ttl_seconds=90))
        await (await client.load_state(saved.path))
        await (await client.load_state_with_optimizer(saved.path))

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    (state,), (weights,) = bodies(asked, "save_weights"), bodies(asked, "save_weights_for_sampler")
    assert (state["path"], state["ttl_seconds"], state["model_id"]) == ("kept", 60, "model")
    assert (weights["path"], weights["ttl_seconds"]) == ("mine", 90)
    assert [body["optimizer"] for body in bodies(asked, "load_weights")] == [False, True]


def test_unnamed_weights_have_a_number_and_named_ones_none():
    async def story(runtime: Runtime) -> None:
        client = await (await runtime.create_service_client()).create_lora_training_client("a/b", 2)
        for name in (None, "mine", None):
            await client.save_weights_and_get_sampling_client(name)

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    saves = bodies(asked, "save_weights_for_sampler")
    assert [body.get("path") for body in saves] == [None, "mine", None]
    first, second, third = (body.get("sampling_session_seq_id") for body in saves)
    assert (first, second) == (0, None)
    assert third > first


@pytest.mark.parametrize("loss_fn", ["squared", "", 5, None, "CROSS_ENTROPY"])
def test_an_unknown_loss_is_refused_before_anything_is_sent(loss_fn: Any):
    async def story(runtime: Runtime) -> None:
        client = await (await runtime.create_service_client()).create_lora_training_client("a/b", 2)
        for call in (client.forward_backward, client.forward):
            with pytest.raises(InvalidInput, match="loss_fn") as refused:
                await call(batch(1), loss_fn)
            assert "cross_entropy" in str(refused.value)

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    assert not {"forward", "forward_backward"} & {name for name, _ in asked}


@pytest.mark.parametrize("settings", [{"epsilon": []}, {"epsilon": object()}, [1], "epsilon", {5: 1.0}])
def test_settings_of_a_loss_that_are_none_are_refused(settings: Any):
    async def story(runtime: Runtime) -> None:
        client = await (await runtime.create_service_client()).create_lora_training_client("a/b", 2)
        with pytest.raises(InvalidInput, match="loss_fn_config"):
            await client.forward_backward(batch(1), "ppo", settings)

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    assert "forward_backward" not in {name for name, _ in asked}


def test_an_error_of_get_info_is_its_callers_alone():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        with pytest.raises(APIStatusError, match="403"):
            await client.get_info()
        await (await client.optim_step(AdamParams()))

    train(story, Status(path="/get_info", status=403, nth=2, times=1000))


def test_an_update_returns_its_metrics_and_a_lost_poll_is_asked_again():
    async def story(runtime: Runtime) -> None:
        client = await (await runtime.create_service_client()).create_lora_training_client("a/b", 2)
        assert (await (await client.optim_step(AdamParams()))).metrics == {"norm:max": 2.0}

    asked: list[tuple[str, bytes]] = []
    ask(story, {"result of optim_step": {"metrics": {"norm:max": 2.0}}}, asked=asked)
    assert bodies(asked, "optim_step")[0]["adam_params"]["learning_rate"] == 1e-4

    async def lossy(world: World, service: ServiceClient, client: TrainingClient) -> float:
        start = trio.current_time()
        await (await client.optim_step(AdamParams()))
        return trio.current_time() - start

    undisturbed = train(lossy).value
    nth = 2  # the first poll was for the model
    for fault in (DropBefore(path="/retrieve_future", nth=nth), DropAfter(path="/retrieve_future", nth=nth)):
        assert undisturbed + 0.3 < train(lossy, fault).value < undisturbed + 30.0


def test_where_one_sample_may_be_under_way_the_next_is_sent_after_it():
    async def story(runtime: Runtime) -> None:
        sampler = await (await runtime.create_service_client()).create_sampling_client(base_model="a/b")
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(sampler.sample, PROMPT)

    for limit, expected in ((1, ["asample", "retrieve_future"] * 3), (3, ["asample"] * 3)):
        asked: list[tuple[str, bytes]] = []
        ask(story, {"client/config": {"sample_max_concurrent_requests": limit}}, asked=asked)
        names = [name for name, _ in asked if name in ("asample", "retrieve_future")]
        assert names[: len(expected)] == expected


def test_a_sample_has_its_logprobs_and_the_likeliest_tokens_of_the_prompt():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        found = await sampler.sample(
            PROMPT, 2, SamplingParams(max_tokens=3), include_prompt_logprobs=True, topk_prompt_logprobs=2
        )
        for sequence in found.sequences:
            assert sequence.stop_reason in ("stop", "length")
            assert sequence.logprobs is not None
            assert len(sequence.tokens) == len(sequence.logprobs) <= 3
        assert found.topk_prompt_logprobs is not None
        first, second = found.topk_prompt_logprobs
        assert first is None
        assert second is not None
        ((best, logprob), (_, less)) = second
        assert isinstance(best, int)
        assert 0 > logprob >= less

    train(story)


@pytest.mark.parametrize("category", ["user", "server"])
def test_a_failed_request_is_its_futures_error_and_the_next_goes_on(category: str):
    async def story(runtime: Runtime) -> None:
        client = await (await runtime.create_service_client()).create_lora_training_client("a/b", 2)
        failed = await client.forward_backward(batch(1))
        update = await client.optim_step(AdamParams())
        with pytest.raises(RequestFailedError, match="too long") as caught:
            await failed
        assert caught.value.category == category
        await update

    ask(story, {"result of forward_backward": {"error": "too long", "category": category}})


@pytest.mark.parametrize("answer", [{}, {"path": None}, {"path": None, "sampling_session_id": None}])
def test_saved_weights_without_a_place_are_an_error(answer: dict[str, Any]):
    async def story(runtime: Runtime) -> None:
        client = await (await runtime.create_service_client()).create_lora_training_client("a/b", 2)
        with pytest.raises(APIResponseError, match="neither a path nor a sampling session"):
            await client.save_weights_and_get_sampling_client()

    asked: list[tuple[str, bytes]] = []
    ask(story, {"result of save_weights_for_sampler": answer}, asked=asked)
    assert "create_sampling_session" not in {name for name, _ in asked}
