"""Recoveries under random failures, crashes and withdrawals: what holds of every order, and of all together."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio

from tests.recovery.stand_ins import Runs, Service, checkpoint, heard
from tests.recovery.test_executor import crash, run
from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import APIConnectionError, BadRequestError, RecoveryFailed
from tinker_actors.recovery.events import (
    RecoveryCompleted,
    RecoveryExhausted,
    RecoveryFailure,
    RecoveryStarted,
)
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
