"""Clients that are created, from states too, cancelled on the way, closed, unloaded and forgotten."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from tests.clients.scenario import batch, train
from tinker_actors import gather
from tinker_actors.clients import SamplingClient, ServiceClient, TrainingClient
from tinker_actors.clients.rest import RestClient
from tinker_actors.errors import (
    APIStatusError,
    BadRequestError,
    ClosedError,
    InvalidInput,
    NotFoundError,
    OperationCancelled,
    TinkerError,
)
from tinker_actors.local.refusals import Refusal
from tinker_actors.runtime import Runtime
from tinker_actors.testing.faults import Delay, DropAfter, Status
from tinker_actors.testing.operations import BASE_MODEL, PROMPT
from tinker_actors.testing.operations import plain as plain_of
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, SamplingParams, TinkerPath

STEP = AdamParams(learning_rate=0.1)
SHORT = SamplingParams(max_tokens=2, seed=3)


def children(world: World, path: str) -> list[str]:
    node = world.runtime.tree().find(path)
    assert node is not None
    return [child.path.rpartition("/")[2] for child in node.children]


def open_models(world: World) -> list[str]:
    return [name for name, model in world.service.models.items() if model.closed is None]


async def step(client: TrainingClient, seed: int = 1) -> float:
    loss = await client.forward_backward(batch(seed))
    await client.optim_step(STEP)
    return (await loss).metrics["loss:sum"]


@pytest.mark.parametrize("way", ["at once", "by twins"])
def test_a_state_is_gone_on_from_with_its_optimizer_or_without(way: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await step(client)
        path = (await (await client.save_state("kept"))).path
        if way == "at once":
            fresh = await service.create_training_client_from_state(path)
            same = await service.create_training_client_from_state_with_optimizer(path, BASE_MODEL)
        else:
            fresh, same = await gather(
                [
                    service.create_training_client_from_state_async(path),
                    service.create_training_client_from_state_with_optimizer_async(path, BASE_MODEL),
                ]
            )
        assert {fresh.model_id, same.model_id} == {f"{service.session_id}:train:{n}" for n in (1, 2)}
        info = await same.get_info()
        assert (info.lora_rank, info.model_name) == (2, BASE_MODEL)
        losses = {(await step(one, 2), await step(one, 2)) for one in (client, same)}
        assert len(losses) == 1  # as the first goes on
        await step(fresh, 2)
        assert (await step(fresh, 2)) not in {second for _, second in losses}  # its moments began anew
        assert await world.service.digest(client.model_id) == await world.service.digest(same.model_id)

    train(story)


def test_a_creation_by_load_is_made_once_whatever_is_lost():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        path = (await (await client.save_state("kept"))).path
        again = await service.create_training_client_from_state(path)
        await step(again)
        assert len(open_models(world)) == 2

    outcome = train(story, DropAfter(path="/load_weights"), Status(path="/load_weights", nth=2, status=503))
    assert len(outcome.fired) == 2


def test_at_older_servers_the_checkpoints_shape_is_asked_for_and_a_model_of_it_loaded():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await step(client)
        path = (await (await client.save_state("kept"))).path
        same = await service.create_training_client_from_state_with_optimizer(path)
        assert (await same.get_info()).lora_rank == 2
        assert await step(same, 2) == await step(client, 2)
        assert await world.service.digest(client.model_id) == await world.service.digest(same.model_id)
        with pytest.raises(InvalidInput, match="base_model"):
            await service.create_training_client_from_state(path, "another/model")

    old = [Status(path="/load_weights", nth=n, status=422) for n in (1, 3)]
    outcome = train(story, *old)
    assert len(outcome.fired) == 2


def test_a_server_that_wants_a_models_id_by_400_is_an_older_one_too(monkeypatch: pytest.MonkeyPatch):
    async def refuse(*_: object) -> None:
        raise Refusal(400, "Missing model_id")

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        path = (await (await client.save_state("kept"))).path
        same = await service.create_training_client_from_state_with_optimizer(path)
        assert await world.service.digest(client.model_id) == await world.service.digest(same.model_id)

    monkeypatch.setattr("tinker_actors.local.endpoints.training.create_by_load", refuse)
    train(story)


def test_a_refusal_of_the_state_itself_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch):
    async def refuse(*_: object) -> None:
        raise Refusal(400, "path: the state is of another kind")

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        path = (await (await client.save_state("kept"))).path
        with pytest.raises(BadRequestError, match="another kind"):
            await service.create_training_client_from_state(path)
        assert open_models(world) == [client.model_id]

    monkeypatch.setattr("tinker_actors.local.endpoints.training.create_by_load", refuse)
    train(story)


def test_the_shape_of_the_checkpoint_is_that_of_the_model_at_older_servers():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        odd = await service.create_lora_training_client(BASE_MODEL, rank=3, train_mlp=False)
        path = (await (await odd.save_state("kept"))).path
        same = await service.create_training_client_from_state(path)
        lora = world.service.models[same.model_id].run.lora
        assert (lora.rank, lora.train_mlp, lora.train_attn, lora.train_unembed) == (3, False, True, True)

    assert len(train(story, Status(path="/load_weights", status=422)).fired) == 1


@pytest.mark.parametrize("old", [False, True], ids=["by load", "created, then loaded"])
def test_a_failed_restore_leaves_nothing_and_its_number_is_not_given_again(old: bool):
    gone = "tinker://nobody:train:0/weights/none"

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        path = (await (await client.save_state("kept"))).path
        with pytest.raises(APIStatusError):
            await service.create_training_client_from_state(path if old else gone)
        await world.settle()
        assert open_models(world) == [client.model_id]
        assert "training-1" not in children(world, "runtime/sessions/session-0/clients")
        again = await service.create_training_client_from_state(path)
        assert again.model_id == f"{service.session_id}:train:2"
        await step(again)

    loads = [Status(path="/load_weights", nth=1, status=422), Status(path="/load_weights", nth=2, status=403)]
    train(story, *(loads if old else ()))


WHERE = {
    "before it is sent": Delay(path="/create_model", nth=2, seconds=30.0),
    "when its answer is on the way": Delay(path="/create_model", nth=2, seconds=30.0, reply=True),
    "when it is promised": Delay(path="/retrieve_future", nth=2, seconds=30.0),
    "when it is made": Delay(path="/get_info", nth=2, seconds=30.0),
}


@pytest.mark.parametrize("twin", [False, True], ids=["its caller", "its Future"])
@pytest.mark.parametrize("where", WHERE)
def test_a_creation_that_is_given_up_leaves_no_model_and_its_number_is_not_given_again(where: str, twin: bool):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        if twin:
            future = service.create_lora_training_client_async(BASE_MODEL, rank=2)
            await trio.sleep(10)
            assert future.cancel()
            with pytest.raises(OperationCancelled):
                await future
        else:
            with trio.move_on_after(10) as scope:
                await service.create_lora_training_client(BASE_MODEL, rank=2)
            assert scope.cancelled_caught
        assert sorted(children(world, "runtime/sessions/session-0/clients")) == ["service", "training-0"]
        await world.settle()
        assert open_models(world) == [client.model_id]
        other = await service.create_lora_training_client(BASE_MODEL, rank=2)
        assert other.model_id == f"{service.session_id}:train:2"
        await step(other)

    outcome = train(story, WHERE[where])
    assert len(outcome.fired) == 1


def test_several_creations_run_together():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        path = (await (await client.save_weights_for_sampler("mine"))).path
        assert path is not None
        began = trio.current_time()
        models = [service.create_lora_training_client_async(BASE_MODEL, rank=2) for _ in range(3)]
        samplers = [
            service.create_sampling_client_async(base_model=BASE_MODEL),
            service.create_sampling_client_async(model_path=path),
            client.create_sampling_client_async(path),
            SamplingClient.create_async(service, base_model=BASE_MODEL),
            client.save_weights_and_get_sampling_client_async(),
        ]
        made = await gather(models)
        assert len({one.model_id for one in made}) == 3
        clients = await gather(samplers)
        assert len({one.sampling_session_id for one in clients}) == 5
        assert clients[2].model_path == path
        assert trio.current_time() - began < 60.0  # each create_model takes 30
        plain = await client.create_sampling_client(path)
        futures = [one.sample_async(PROMPT, 1, SHORT) for one in (plain, *clients[1:3])]
        first, *others = await gather(futures)
        assert all(plain_of(one) == plain_of(first) for one in others)
        assert await plain.compute_logprobs_async(PROMPT) == await plain.compute_logprobs(PROMPT)
        assert await client.get_info_async() == await client.get_info()

    train(story, *(Delay(path="/create_model", nth=n, seconds=30.0) for n in (2, 3, 4)))


HANDLES = (Runtime, ServiceClient, TrainingClient, SamplingClient, RestClient)
NO_TWIN = {
    "aclose": "it is the end, which is waited for",
    "close": "it is the end, which is waited for",
    "watch": "for open_runtime",
}


@pytest.mark.parametrize("kind", HANDLES, ids=lambda kind: kind.__name__)
def test_what_is_awaited_has_a_twin_that_gives_a_future_or_a_reason(kind: type):
    awaited = [
        name for name in dir(kind) if not name.startswith("_") and inspect.iscoroutinefunction(getattr(kind, name))
    ]
    assert awaited
    for name in awaited:
        assert name in NO_TWIN or hasattr(kind, f"{name}_async"), f"{kind.__name__}.{name} has no twin, and no reason"


def test_a_session_is_created_by_its_twin_and_one_that_is_cancelled_leaves_nothing():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        made = await world.runtime.create_service_client_async(tags=("one",))
        assert made.session_id in {session.session_id for session in world.service.sessions.alive()}
        future = world.runtime.create_service_client_async()
        await trio.sleep(10)
        assert future.cancel()
        with pytest.raises(OperationCancelled):
            await future
        await world.settle()
        assert sorted(children(world, "runtime/sessions")) == ["session-0", "session-1"]

    train(story, Delay(path="/create_session", nth=3, seconds=30.0))


def test_twins_take_what_their_calls_take():
    for kind in HANDLES:
        twins = [name for name in dir(kind) if name.endswith("_async") and name != "create_async"]
        assert twins
        for name in twins:
            plain, twin = getattr(kind, name.removesuffix("_async")), getattr(kind, name)
            assert not inspect.iscoroutinefunction(twin)
            assert inspect.signature(twin).parameters == inspect.signature(plain).parameters, name


def test_weights_are_copied_into_the_session():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        path = (await (await client.save_state("kept"))).path
        copies = [await service.copy_weights(path), await service.copy_weights_async(path, ttl_seconds=60)]
        assert [TinkerPath.parse(copy).run for copy in copies] == [f"{service.session_id}:train:{n}" for n in (1, 2)]
        again = await service.create_training_client_from_state(copies[0])
        assert again.model_id == f"{service.session_id}:train:3"
        with pytest.raises(NotFoundError):
            await service.copy_weights("tinker://nobody:train:0/weights/none")

    outcome = train(story, DropAfter(path="/copy_weights"))
    assert len(outcome.fired) == 1


def test_external_weights_are_saved_in_their_turn_and_once():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        saved = await (await client.save_weights_external("files", ttl_seconds=60))
        assert saved.path == f"tinker://{client.model_id}/external_weights/files"
        rest = await service.create_rest_client()
        assert (await rest.get_external_weights_urls(saved.path)).urls
        assert (await client.save_weights_external_async("more")).path is not None

    outcome = train(story, DropAfter(path="/save_weights_external"))
    kinds = [operation.kind for operation in outcome.models[0].applied]
    assert kinds == ["save_weights_external", "save_weights_external"]


def test_an_unloaded_model_has_done_what_was_accepted_and_is_no_more():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        other = await service.create_lora_training_client(BASE_MODEL, rank=2)
        sampler = await other.save_weights_and_get_sampling_client("kept")
        last = await other.forward_backward(batch(1))
        unloaded = other.unload_model_async()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ClosedError):
            await other.optim_step(STEP)
        assert (await unloaded).model_id == other.model_id
        assert (await last).metrics
        assert open_models(world) == [client.model_id]
        with pytest.raises(ClosedError):
            await other.unload_model()
        await other.aclose()
        await sampler.sample(PROMPT, 1, SHORT)
        twin = await service.create_lora_training_client(BASE_MODEL, rank=2)
        assert (await twin.unload_model_async()).model_id == twin.model_id
        assert open_models(world) == [client.model_id]

    train(story)


def test_a_server_that_can_not_unload_frees_the_model_with_its_session():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        other = await service.create_lora_training_client(BASE_MODEL, rank=2)
        assert (await other.unload_model()).model_id == other.model_id
        assert "training-1" not in children(world, "runtime/sessions/session-0/clients")

    train(story, Status(path="/unload_model", status=404))


BAD: dict[str, Callable[[ServiceClient, TrainingClient, SamplingClient], Any]] = {
    "path": lambda s, c, x: s.create_training_client_from_state_async("tinker://r/sampler_weights/a"),
    "path of the wrong type": lambda s, c, x: s.create_training_client_from_state_async(None),  # type: ignore[arg-type]
    "path with the optimizer": lambda s, c, x: s.create_training_client_from_state_with_optimizer_async(
        "r/weights/a"
    ),
    "base_model": lambda s, c, x: s.create_training_client_from_state_async("tinker://r/weights/a", ""),
    "weights_access_token": lambda s, c, x: s.create_training_client_from_state_async(
        "tinker://r/weights/a", weights_access_token=""
    ),
    "user_metadata": lambda s, c, x: s.create_lora_training_client_async(BASE_MODEL, user_metadata={"a": 1}),  # type: ignore[dict-item]
    "train_*": lambda s, c, x: s.create_lora_training_client_async(
        BASE_MODEL, train_mlp=False, train_attn=False, train_unembed=False
    ),
    "model_path, base_model": lambda s, c, x: s.create_sampling_client_async(),
    "model_path": lambda s, c, x: s.create_sampling_client_async(model_path="tinker://r/weights/a"),
    "model_path of a state": lambda s, c, x: c.create_sampling_client_async("tinker://r/weights/a"),
    "retry_config": lambda s, c, x: c.create_sampling_client_async("tinker://r/sampler_weights/a", retry_config=3),  # type: ignore[arg-type]
    "CopyWeightsRequest.source_path": lambda s, c, x: s.copy_weights_async("a"),
    "ttl_seconds": lambda s, c, x: s.copy_weights_async("tinker://r/weights/a", ttl_seconds=-1),
    "name": lambda s, c, x: c.save_weights_external_async("a/b"),
    "name of a sampler": lambda s, c, x: c.save_weights_and_get_sampling_client_async(""),
    "age_encryption_recipients": lambda s, c, x: c.save_weights_external_async("a", None, "age1key"),
    "age_encryption_recipients[0]": lambda s, c, x: c.save_weights_external_async("a", None, [3]),  # type: ignore[list-item]
    "SaveWeightsExternalRequest.age_encryption_recipients": lambda s, c, x: c.save_weights_external_async(
        "a", None, ["key"]
    ),
    "num_samples": lambda s, c, x: x.sample_async(PROMPT, 0),
    "prompt": lambda s, c, x: x.sample_async([1, 2]),  # type: ignore[arg-type]
    "top_p": lambda s, c, x: x.sample_async(PROMPT, 1, SamplingParams(top_p=0.0)),
    "top_p above 1": lambda s, c, x: x.sample_async(PROMPT, 1, SamplingParams(top_p=1.5)),
    "stop": lambda s, c, x: x.sample_async(PROMPT, 1, SamplingParams(stop=["a", 3])),  # type: ignore[list-item]
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_value_is_refused_at_the_call_of_a_twin(what: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        before = world.runtime.counters()
        with pytest.raises(InvalidInput) as caught:
            BAD[what](service, client, sampler)
        assert caught.value.field.startswith(what.partition(" of ")[0].partition(" with ")[0].partition(" above ")[0])
        assert world.runtime.counters() == before
        assert client.accepted == ()

    train(story)


def test_unknown_arguments_are_errors_of_the_call():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        for call in (
            lambda: service.create_lora_training_client(BASE_MODEL, ranks=3),  # type: ignore[call-arg]
            lambda: service.create_training_client_from_state_async("p", optimiser=True),  # type: ignore[call-arg]
            lambda: client.forward_backward(batch(1), loss="ppo"),  # type: ignore[call-arg]
        ):
            with pytest.raises(TypeError, match="unexpected keyword"):
                call()

    train(story)


def test_nothing_is_created_after_the_end():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        await sampler.aclose()
        with pytest.raises(ClosedError):
            sampler.sample_async(PROMPT)
        await service.close()
        for call in (
            lambda: service.create_lora_training_client_async(BASE_MODEL),
            lambda: service.create_training_client_from_state_async("tinker://r/weights/a"),
            lambda: service.create_sampling_client_async(base_model=BASE_MODEL),
            lambda: service.copy_weights_async("tinker://r/weights/a"),
            lambda: client.create_sampling_client_async("tinker://r/sampler_weights/a"),
            lambda: client.save_weights_external_async("a"),
        ):
            with pytest.raises(TinkerError, match="closed"):
                call()

    train(story)


def test_a_sampling_or_rest_client_that_is_let_go_is_closed_and_nothing_else_is():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        kept = await client.save_weights_and_get_sampling_client()
        for _ in range(3):
            await client.save_weights_and_get_sampling_client()
            await world.runtime.create_rest_client()
        rest = await world.runtime.create_rest_client()
        sample = (await service.create_sampling_client(base_model=BASE_MODEL)).sample_async(PROMPT, 1, SHORT)
        assert (await sample).sequences  # under way it keeps its client
        del sample
        gc.collect()
        await trio.sleep(1)
        clients = children(world, "runtime/sessions/session-0/clients")
        assert sorted(clients) == ["sampler-0", "service", "training-0"]
        assert children(world, "runtime/rest") == ["rest-3"]
        await kept.sample(PROMPT, 1, SHORT)
        assert (await rest.list_sessions()).sessions == (service.session_id,)
        await step(client)

    train(story)
