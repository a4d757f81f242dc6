"""The table of ARCHITECTURE.md, "What a crash keeps": each actor of the tree is crashed in the middle of work."""

from __future__ import annotations

import pytest
import trio

from supervision import ActorCrashed, ActorDegraded, ActorRestarted, ActorStarted, SupervisorRef
from supervision.context import Context
from tests.clients.scenario import batch, train
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.sessions import SessionState
from tinker_actors.testing.operations import BASE_MODEL, PROMPT, plain
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, SamplingParams

SESSION = "runtime/sessions/session-0"
ROWS = {
    f"{SESSION}/telemetry-sender": 1,
    f"{SESSION}/telemetry": 1,
    f"{SESSION}/manager": 1,
    f"{SESSION}/heartbeat": 1,
    f"{SESSION}/queue-observer": 1,
    f"{SESSION}/checkpoints": 1,
    f"{SESSION}/clients/service": 1,
    "runtime/rest/rest-0": 1,
    f"{SESSION}/clients/training-0": 1,
    f"{SESSION}/clients/sampler-0": 1,
}
RECOVERY = "runtime/recovery"
WITH = {f"{RECOVERY}/executor": [f"{RECOVERY}/monitor"]}
"""What is restarted with an actor: it works by what that one does."""
OF_THE_RUNTIME = (f"{RECOVERY}/executor", f"{RECOVERY}/monitor")


class Planted(Exception):
    """The crash of this test."""


def crash(world: World, path: str) -> None:
    place = world.runtime.system.root
    *supervisors, name = path.split("/")[1:]
    for supervisor in supervisors:
        place = place.child(supervisor)
        assert isinstance(place, SupervisorRef)
    life = place.child(name).place.life

    async def fail() -> None:
        raise Planted

    assert life is not None
    Context(life).start_task(fail, name="planted")


async def work(world: World, service: ServiceClient, client: TrainingClient, path: str | None):
    sampler = await service.create_sampling_client(base_model=BASE_MODEL)
    rest = await world.runtime.create_rest_client()
    samples = {}

    async def sample(seed: int) -> None:
        samples[seed] = plain(await sampler.sample(PROMPT, 1, SamplingParams(max_tokens=4, seed=seed)))

    losses = []
    async with trio.open_nursery() as nursery:
        for seed in range(3):
            nursery.start_soon(sample, seed)
        for number in range(3):
            step = await client.forward_backward(batch(number, number + 10))
            update = await client.optim_step(AdamParams(learning_rate=0.01))
            if number == 1 and path is not None:
                crash(world, path)
            losses.append((await step).metrics["loss:sum"])
            await update
    await trio.sleep(60)
    assert service.state is SessionState.ACTIVE
    assert (await client.get_info()).model_id == client.model_id
    assert (await sampler.get_sampler_info()).base_model == BASE_MODEL
    assert (await service.get_server_capabilities()).supported_models
    assert (await rest.list_sessions()).sessions == (service.session_id,)
    assert len(world.service.sessions.alive()) == 1
    return losses, samples


@pytest.fixture(scope="module")
def undisturbed():
    return train(lambda world, service, client: work(world, service, client, None))


@pytest.mark.parametrize("path", [*ROWS, *OF_THE_RUNTIME])
def test_a_crash_keeps_everything_and_disturbs_no_sibling(path: str, undisturbed):
    outcome = train(lambda world, service, client: work(world, service, client, path))

    crashed = [event.path for event in outcome.events if isinstance(event, ActorCrashed)]
    restarted = [event.path for event in outcome.events if isinstance(event, ActorRestarted)]
    assert crashed == [path]
    assert restarted == [path, *WITH.get(path, [])]
    assert outcome.value == undisturbed.value
    assert outcome.models[0].digest == undisturbed.models[0].digest
    assert outcome.models[0].applied == undisturbed.models[0].applied
    assert outcome.counters["heartbeats"] >= 4


def test_the_table_has_every_actor_of_a_session(undisturbed):
    started = {event.path for event in undisturbed.events if isinstance(event, ActorStarted)}
    actors = {path for path in started if not any(other.startswith(f"{path}/") for other in started)}
    actors = {path for path in actors if not path.startswith("runtime/tasks/")}  # calls, such as those that close

    assert actors == set(ROWS)


@pytest.mark.parametrize("path", [f"{SESSION}/clients/service", f"{SESSION}/clients/sampler-0"])
def test_a_client_that_crashes_again_and_again_ends_alone(path: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        for _ in range(11):
            while world.runtime.tree().find(path).state != "running":  # noqa: ASYNC110  # a tree has no event
                await trio.sleep(0.01)
            crash(world, path)
            await trio.sleep(0.01)
        await (await client.optim_step(AdamParams()))
        assert service.state is SessionState.ACTIVE
        await sampler.aclose()  # kept until here: one that is let go is closed

    outcome = train(story)

    assert {event.path for event in outcome.events if isinstance(event, ActorCrashed | ActorRestarted)} == {path}
    assert [event.path for event in outcome.events if isinstance(event, ActorDegraded)] == [path]
