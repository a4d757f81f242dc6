"""Training and service clients that are let go without being closed: what they held is freed, and nothing else."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.clients.scenario import batch, train
from tests.property.steps import AtStep
from tinker_actors.clients import SamplingClient, ServiceClient, TrainingClient
from tinker_actors.config import Config, RecoveryPolicy
from tinker_actors.local import ServerSettings
from tinker_actors.runtime import Runtime
from tinker_actors.testing.faults import Delay
from tinker_actors.testing.operations import BASE_MODEL, PROMPT
from tinker_actors.testing.simulation import World, simulate
from tinker_actors.types import AdamParams, SamplingParams

STEP = AdamParams(learning_rate=0.1)
SHORT = SamplingParams(max_tokens=2, seed=3)


def children(runtime: Runtime, path: str) -> list[str]:
    node = runtime.tree().find(path)
    return [] if node is None else sorted(child.path.rpartition("/")[2] for child in node.children)


def clients(runtime: Runtime, session: str = "session-0") -> list[str]:
    return children(runtime, f"runtime/sessions/{session}/clients")


def open_models(world: World) -> list[str]:
    return [name for name, model in world.service.models.items() if model.closed is None]


def alive(world: World) -> set[str]:
    return {session.session_id for session in world.service.sessions.alive()}


async def second(service: ServiceClient) -> TrainingClient:
    return await service.create_lora_training_client(BASE_MODEL, rank=2)


async def settled(world: World, held: dict[str, Any] | None = None) -> None:
    """Let go of what is ``held``, and wait for what comes of it."""
    if held is not None:
        held.clear()
    await trio.sleep(1.0)  # what is let go is handed over to the loop
    await world.settle()


def drop(held: list[Any]) -> None:
    held.clear()


def drop_in_another_thread(held: list[Any]) -> None:
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()


@pytest.mark.parametrize("recovery", [None, RecoveryPolicy()], ids=["alone", "watched by the recovery"])
@pytest.mark.parametrize("way", [drop, drop_in_another_thread], ids=lambda way: way.__name__)
def test_a_training_client_that_is_let_go_is_unloaded_and_nothing_else_is(
    way: Callable[[list[Any]], None], recovery: RecoveryPolicy | None
):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        made = await second(service)
        sampler = await made.save_weights_and_get_sampling_client("kept")
        held = [made]
        del made
        with pytest.warns(ResourceWarning, match=r"session-0/training-1 \(.*:train:1\) was let go without"):
            way(held)
        await settled(world)
        assert open_models(world) == [client.model_id]
        assert clients(world.runtime) == ["sampler-0", "service", "training-0"]
        assert (await sampler.sample(PROMPT, 1, SHORT)).sequences
        await (await client.optim_step(STEP))
        assert (await second(service)).model_id.endswith(":train:2")

    train(story, recovery=recovery)


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_training_client_that_is_closed_is_unloaded_and_nothing_else_is(cancelled: bool):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        made = await second(service)
        sampler = await made.save_weights_and_get_sampling_client("kept")
        assert open_models(world) == [client.model_id, made.model_id]
        with trio.CancelScope() as scope:
            if cancelled:
                scope.cancel()
            await made.aclose()
        await settled(world)
        assert open_models(world) == [client.model_id]
        await (await client.optim_step(STEP))
        assert (await sampler.sample(PROMPT, 1, SHORT)).sequences

    train(story)


def test_one_that_is_part_of_a_cycle_is_found():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        held: list[Any] = [await second(service)]
        held.append(held)
        del held
        with pytest.warns(ResourceWarning, match="training-1"):
            gc.collect()
        await settled(world)
        assert open_models(world) == [client.model_id]

    train(story)


def test_what_was_accepted_is_done_before():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        made = await second(service)
        model_id = made.model_id
        futures = [await made.forward_backward(batch(1)), await made.optim_step(STEP), await made.save_state("last")]
        del made
        await trio.sleep(10.0)
        assert model_id in open_models(world)
        assert not [future for future in futures if future.done()]
        for future in futures:
            await future
        await settled(world)
        assert model_id not in open_models(world)
        assert len(world.service.applied(model_id)) == 3

    train(story, Delay(path="/forward_backward", seconds=30.0))


def test_a_call_that_was_started_keeps_its_client():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        future = (await second(service)).save_weights_and_get_sampling_client_async()
        info = (await second(await world.runtime.create_service_client())).get_info_async()
        path = (await (await client.save_state("kept"))).path
        copied = (await world.runtime.create_service_client()).copy_weights_async(path)
        assert (await (await future).sample(PROMPT, 1, SHORT)).sequences
        assert (await info).lora_rank == 2
        assert (await copied).startswith("tinker://")
        del future, info
        gc.collect()
        await settled(world)
        assert open_models(world) == [client.model_id]
        assert alive(world) == {service.session_id}

    # by when it is sent the sessions would have ended that nobody holds
    train(story, Delay(path="/copy_weights", seconds=30.0))


def test_a_creation_whose_result_nobody_takes_leaves_no_model():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        service.create_lora_training_client_async(BASE_MODEL, rank=2)
        await settled(world)
        assert open_models(world) == [client.model_id]
        assert clients(world.runtime) == ["service", "training-0"]

    train(story)


@pytest.mark.parametrize("last", ["service", "training", "sampling"])
def test_a_session_ends_with_the_last_of_its_handles(last: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        other = await world.runtime.create_service_client()
        session_id = other.session_id
        handles: dict[str, ServiceClient | TrainingClient | SamplingClient] = {
            "training": await second(other),
            "sampling": await other.create_sampling_client(base_model=BASE_MODEL),
            "service": other,
        }
        del other
        for name in [name for name in handles if name != last]:
            del handles[name]
            await settled(world)
            assert session_id in alive(world)
        (kept,) = handles.values()
        if isinstance(kept, SamplingClient):
            assert (await kept.sample(PROMPT, 1, SHORT)).sequences
        elif isinstance(kept, TrainingClient):
            await (await kept.optim_step(STEP))
        del kept
        with pytest.warns(ResourceWarning, match=r"session-1 was let go without close\(\)"):
            await settled(world, handles)
        assert alive(world) == {service.session_id}
        assert children(world.runtime, "runtime/sessions") == ["session-0"]
        await (await client.optim_step(STEP))

    train(story)


def test_what_was_closed_or_ended_with_its_runtime_is_let_go_in_silence():
    left: list[Any] = []

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        closed = await second(service)
        await closed.aclose()
        unloaded = await second(service)
        await unloaded.unload_model()
        async with await world.runtime.create_service_client() as other:
            ended = await second(other)
        del closed, unloaded, other, ended
        gc.collect()
        await settled(world)
        left.extend((service, client))

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", ResourceWarning)
        train(story)
        left.clear()
        gc.collect()
    assert [str(warning.message) for warning in found if "let go" in str(warning.message)] == []


def test_nothing_that_was_in_a_runtime_outlives_it():
    left: list[weakref.ref[Any]] = []

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        sampler = await client.save_weights_and_get_sampling_client("kept")
        rest = await service.create_rest_client()
        left.extend(weakref.ref(each) for each in (world.runtime, service, client, sampler, rest))

    train(story)
    gc.collect()
    assert [each() for each in left] == [None] * 5


WHERE = {
    "before it is sent": Delay(path="/create_session", nth=2, seconds=30.0),
    "when it is made": Delay(path="/create_session", nth=2, seconds=30.0, reply=True),
    "at its first request": Delay(path="/client/config", nth=2, seconds=30.0),
}


@pytest.mark.parametrize("where", WHERE)
def test_a_session_whose_creation_is_given_up_leaves_nothing(where: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        with trio.move_on_after(10.0) as scope:
            await world.runtime.create_service_client()
        assert scope.cancelled_caught
        assert children(world.runtime, "runtime/sessions") == ["session-0"]
        await settled(world)
        other = await world.runtime.create_service_client()
        assert children(world.runtime, "runtime/sessions") == ["session-0", "session-2"]
        await other.close()

    train(story, WHERE[where])


def given_up_at(step: int) -> bool:
    """Give a creation up at a scheduler step; False when it has no such step."""
    at = AtStep(step)

    async def scenario(world: World) -> None:
        with trio.CancelScope() as scope:
            at.arm(lambda: scope.cancel(reason="the sweep"))
            await world.runtime.create_service_client()
            at.disarm()
        at.disarm()
        if scope.cancelled_caught:
            assert children(world.runtime, "runtime/sessions") == []
            await settled(world)

    simulate(
        scenario,
        seed=1,
        settings=ServerSettings(base_model=BASE_MODEL),
        config=Config.load(base_url="https://server", api_key="tml-test", environ={}),
        instruments=(at,),
    )
    return at.acted


def test_a_session_whose_creation_is_given_up_at_any_step_leaves_nothing():
    step = 1
    while given_up_at(step):
        step += 1
    assert step > 40
