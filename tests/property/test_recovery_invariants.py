"""Recoveries under random failures, crashes and withdrawals: what holds of every order, and of all together."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
import trio

from tests.clients.scenario import train
from tests.clients.test_epochs import steps
from tests.recovery.stand_ins import Runs, Service, checkpoint, heard
from tests.recovery.test_executor import crash, run
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import APIConnectionError, BadRequestError, RecoveryFailed
from tinker_actors.recovery.events import (
    RecoveryCompleted,
    RecoveryExhausted,
    RecoveryFailure,
    RecoveryStarted,
)
from tinker_actors.testing.faults import DropAfter, DropBefore, Duplicate, Reset
from tinker_actors.testing.simulation import World

RUNS, LIMIT, ATTEMPTS = 12, 3, 3
POLICY = RecoveryPolicy(max_concurrent=LIMIT, max_attempts=ATTEMPTS, backoff_first=2.0, backoff_longest=8.0)


@pytest.mark.parametrize("seed", range(40))
def test_every_order_has_one_end_and_no_place_is_lost(seed: int):
    rng = random.Random(seed)
    ends: dict[str, str] = {}
    busy: list[int] = []

    async def some_fail(call: int) -> None:
        await trio.sleep(rng.choice((0.0, 0.3, 2.0)))
        if rng.random() < 0.4:
            raise rng.choice((APIConnectionError("cut"), BadRequestError(400, "no"), RuntimeError("odd")))

    async def one(world: World, service: Service, name: str) -> None:
        with trio.move_on_after(rng.choice((0.5, 4.0, 10_000.0, 10_000.0))):
            try:
                recovered = await world.runtime.recovery.recover(name, service)
            except RecoveryFailed:
                ends[name] = "exhausted"
            else:
                ends[name] = "completed"
                assert not recovered.client.closed
                assert recovered.attempts <= ATTEMPTS
            return
        ends[name] = "withdrawn"

    async def trouble(world: World) -> None:
        for _ in range(8):
            await trio.sleep(rng.random() * 3.0)
            places = [
                node.path.removeprefix("runtime/")
                for node in world.runtime.tree().find("runtime/recovery/attempts").children
                if node.state == "running"
            ]
            victims = [*places, "recovery/executor", "recovery/monitor"]
            victim = rng.choice(victims)
            if world.runtime.tree().find(f"runtime/{victim}").state == "running":
                crash(world, victim)

    async def story(world: World) -> list[Any]:
        service = Service(Runs(checkpoint("a")), some_fail)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trouble, world)
            for number in range(RUNS):
                nursery.start_soon(one, world, service, f"run-{number}")
                await trio.sleep(rng.random())
                busy.append(service.busy)
        assert world.runtime.recovery.recoveries() == ()
        late = Service(Runs(checkpoint("a")))
        for number in range(LIMIT):
            await world.runtime.recovery.recover(f"after-{number}", late)
        assert service.busiest <= LIMIT
        return [made for made in service.made if not made.closed]

    outcome = run(story, POLICY)

    events = heard(outcome)
    for name, end in ends.items():
        mine = [event for event in events if event.run_id == name]
        started = [event.attempt for event in mine if isinstance(event, RecoveryStarted)]
        failed = [event.attempt for event in mine if isinstance(event, RecoveryFailure)]
        done = [event for event in mine if isinstance(event, RecoveryCompleted)]
        given_up = [event for event in mine if isinstance(event, RecoveryExhausted)]
        assert started == sorted(set(started)), "an attempt was made twice"
        assert len(started) <= ATTEMPTS
        assert failed == sorted(set(failed))
        assert (len(done), len(given_up)) == ((end == "completed"), (end == "exhausted"))
    assert len(ends) == RUNS
    assert len(outcome.value) == list(ends.values()).count("completed")


@pytest.mark.parametrize("seed", range(30))
def test_a_run_of_the_servers_is_recovered_once_whatever_the_network_does(seed: int):
    rng = random.Random(seed)
    paths = ("/create_model", "/load_weights", "/retrieve_future", "/get_info", "", "")
    kinds = (DropBefore, DropAfter, Reset, Duplicate)
    faults = [rng.choice(kinds)(path=rng.choice(paths), nth=rng.randint(8, 40)) for _ in range(4)]

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> tuple[list[str], list[str]]:
        await steps(client, 1)
        await (await client.save_state("kept")).result()
        run_id = client.model_id
        await client.aclose()
        future = world.runtime.recovery.recover_async(run_id, service)
        for _ in range(rng.randint(0, 3)):
            await trio.sleep(rng.random())
            attempts = world.runtime.tree().find("runtime/recovery/attempts").children
            if attempts and attempts[-1].state == "running" and not future.done():
                crash(world, attempts[-1].path.removeprefix("runtime/"))
        recovered = await future
        world.watch(recovered.client)
        await steps(recovered.client, 2)
        await trio.sleep(600)
        open_here = [model.model_id for model in world.service.models.values() if model.closed is None]
        return open_here, [recovered.client.model_id]

    async def undisturbed(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1, 2)

    calm = train(undisturbed, recovery=POLICY)
    outcome = train(story, *faults, recovery=msgspec.structs.replace(POLICY, max_attempts=9))
    left, wanted = outcome.value
    assert left == wanted
    assert outcome.models[1].digest == calm.models[0].digest
