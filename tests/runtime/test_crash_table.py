"""The table of ARCHITECTURE.md, "What a crash keeps": each actor of the tree is crashed in the middle of work."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from supervision import ActorCrashed, ActorDegraded, ActorRestarted, SupervisorRef, TreeNode
from supervision.context import Context
from tests.clients.scenario import batch, train
from tests.clients.test_epochs import lose_session
from tests.parity.rows import exists
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.config import RecoveryPolicy
from tinker_actors.recovery.events import RecoveryCompleted, RecoveryDetected, RecoveryEvent
from tinker_actors.sessions import SessionRenewed, SessionState
from tinker_actors.testing.faults import Status
from tinker_actors.testing.operations import BASE_MODEL, PROMPT, plain
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, SamplingParams

SESSION = "runtime/sessions/session-0"
ROWS = [
    f"{SESSION}/telemetry-sender",
    f"{SESSION}/telemetry",
    f"{SESSION}/manager",
    f"{SESSION}/heartbeat",
    f"{SESSION}/queue-observer",
    f"{SESSION}/checkpoints",
    f"{SESSION}/clients/service",
    "runtime/rest/rest-0",
    f"{SESSION}/clients/training-0",
    f"{SESSION}/clients/sampler-0",
    "runtime/recovery/executor",
    "runtime/recovery/monitor",
    "runtime/long-waits",
    "runtime/dump-on-signal",
    "runtime/stalls",
]
ELSEWHERE = {
    "spill": "clients/test_spill.py::test_a_crash_of_the_task_that_spills_loses_nothing",
    "job-NAME": "recovery/jobs/test_deaths.py::test_a_crash_of_the_keeper_costs_nothing",
    "attempt": "recovery/test_executor.py::test_a_killed_attempt_frees_its_place_and_is_made_again",
    "joiner": "runtime/test_joining.py::test_a_crash_of_who_takes_part_costs_nothing",
}
"""Where the rows are tested that a training run does not have."""
WITH = {"runtime/recovery/executor": ["runtime/recovery/monitor"]}
"""What is restarted with an actor: it works by what that one does."""
POLICY = RecoveryPolicy(poll_interval=10.0)


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


async def crash_soon(world: World, path: str, delay: float) -> None:
    await trio.sleep(delay)
    while world.runtime.tree().find(path).state != "running":  # noqa: ASYNC110  # a tree has no event
        await trio.sleep(0.01)
    crash(world, path)


async def work(
    world: World,
    service: ServiceClient,
    client: TrainingClient,
    path: str | None,
    *,
    idle: bool = False,
    lost: float | None = None,
):
    """Train and sample; crash ``path`` before, or in the middle, or ``lost`` seconds after the session is lost."""
    sampler = await service.create_sampling_client(base_model=BASE_MODEL)
    rest = await world.runtime.create_rest_client()
    samples = {}
    if idle:
        await trio.sleep(30)
        if path is not None:
            crash(world, path)
        await trio.sleep(30)

    async def sample(seed: int) -> None:
        samples[seed] = plain(await sampler.sample(PROMPT, 1, SamplingParams(max_tokens=4, seed=seed)))

    losses = []
    async with trio.open_nursery() as nursery:
        for seed in range(3):
            nursery.start_soon(sample, seed)
        for number in range(3):
            step = await client.forward_backward(batch(number, number + 10))
            update = await client.optim_step(AdamParams(learning_rate=0.01))
            if number == 1 and lost is not None:
                await lose_session(world, client)
            if number == 1 and path is not None and not idle:
                nursery.start_soon(crash_soon, world, path, lost or 0.0)
            losses.append((await step).metrics["loss:sum"])
            await update
    await trio.sleep(60)
    assert service.state is SessionState.ACTIVE
    assert (await client.get_info()).model_id == client.model_id
    assert (await sampler.get_sampler_info()).base_model == BASE_MODEL
    assert (await service.get_server_capabilities()).supported_models
    assert (await rest.list_sessions()).sessions[0] == service.session_id
    assert len(world.service.sessions.alive()) == 1
    return losses, samples


def test_a_pause_that_the_server_has_asked_for_outlives_a_crash():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        update = await client.optim_step(AdamParams())
        await trio.sleep(5.0)
        crash(world, f"{SESSION}/clients/training-0")
        await trio.sleep(5.0)
        (row,) = world.runtime.pending()
        assert "asked for a pause" in row.reason
        await update
        assert world.transport.hasty == []

    train(story, Status(path="/optim_step", status=503, retry_after=30.0))


@pytest.fixture(scope="module")
def undisturbed():
    return train(lambda world, service, client: work(world, service, client, None))


@pytest.mark.parametrize("path", ROWS)
@pytest.mark.parametrize("idle", [False, True], ids=["at work", "idle"])
def test_a_crash_keeps_everything_and_disturbs_no_sibling(path: str, idle: bool, undisturbed):
    outcome = train(lambda world, service, client: work(world, service, client, path, idle=idle))

    crashed = [event.path for event in outcome.events if isinstance(event, ActorCrashed)]
    restarted = [event.path for event in outcome.events if isinstance(event, ActorRestarted)]
    assert crashed == [path]
    assert restarted == [path, *WITH.get(path, [])]
    assert outcome.value == undisturbed.value
    assert outcome.models[0].digest == undisturbed.models[0].digest
    assert outcome.models[0].applied == undisturbed.models[0].applied
    assert outcome.counters["heartbeats"] >= 4


@pytest.mark.parametrize("delay", [0.01, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("path", ROWS)
def test_a_crash_while_a_lost_session_is_made_good_costs_nothing(path: str, delay: float, undisturbed):
    outcome = train(lambda world, service, client: work(world, service, client, path, lost=delay), recovery=POLICY)

    assert [event.path for event in outcome.events if isinstance(event, ActorCrashed)] == [path]
    assert len([event for event in outcome.events if isinstance(event, SessionRenewed)]) == 1
    assert [type(event) for event in outcome.events if isinstance(event, RecoveryEvent)] == [
        RecoveryDetected,
        RecoveryCompleted,
    ]
    assert outcome.value == undisturbed.value
    assert outcome.models[0].digest == undisturbed.models[0].digest


def test_the_table_has_every_actor_and_each_row_its_test():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        rest = await world.runtime.create_rest_client()
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        actors = [node.path for node in nodes(world.runtime.tree().root) if node.kind == "actor"]
        await rest.aclose()
        await sampler.aclose()
        return actors

    calls = "runtime/tasks/"  # such as those that close clients
    assert {path for path in train(story).value if not path.startswith(calls)} == {*ROWS}
    page = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text("utf-8")
    table = page.split("### What a crash keeps")[1].split("\n\n")[2]
    rows = {line.split("|")[1].strip() for line in table.splitlines()[2:]}
    assert rows == {path.split("/")[-1].replace("-0", "-N") for path in ROWS} | ELSEWHERE.keys()
    assert all(exists(test) for test in ELSEWHERE.values())


def nodes(node: TreeNode) -> list[TreeNode]:
    return [node, *(below for child in node.children for below in nodes(child))]


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
