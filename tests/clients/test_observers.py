"""Whoever listens to a runtime's events or to a queue, and fails, hangs or looks at everything: no client notices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from supervision import ActorCrashed, ActorStarted, Event, ListenerFailed
from tinker_actors.config import Config, RecoveryPolicy
from tinker_actors.errors import PermissionDeniedError
from tinker_actors.local import ServerSettings
from tinker_actors.runtime import Runtime
from tinker_actors.testing.faults import (
    CrashActor,
    CrashAt,
    DropAfter,
    ExpireSessions,
    Fault,
    FaultPlan,
    InjectedCrash,
    PauseQueue,
    Status,
)
from tinker_actors.testing.operations import (
    BASE_MODEL,
    Await,
    ForwardBackward,
    OptimStep,
    Program,
    ProgramResults,
    Sample,
    SaveState,
    run_program,
    start_client,
)
from tinker_actors.testing.oracle import expected
from tinker_actors.testing.simulation import Outcome, World, simulate
from tinker_actors.types import AdamParams

POLL = "/retrieve_future"
PROGRAM = Program(
    steps=(
        ForwardBackward(seeds=(1, 2, 3)),
        OptimStep(),
        SaveState(),
        Sample(seed=3),
        ForwardBackward(seeds=(4,)),
        OptimStep(),
        Await(),
        ForwardBackward(seeds=(5,)),
        OptimStep(),
    )
)
TROUBLE = (
    CrashAt(point="training.polling", nth=2),
    CrashActor(step=200, actor="heartbeat"),
    PauseQueue(path="/optim_step", seconds=30.0),
    DropAfter(path="/optim_step", nth=2),
    ExpireSessions(path=POLL, nth=7),
)


class Unfit(Exception):
    """What an observer raises."""


def fail(_event: Event) -> None:
    raise Unfit


def look(runtime: Runtime) -> Callable[[Event], None]:
    """A listener that looks at everything within the step of each event."""

    def see(_event: Event) -> None:
        str(runtime.tree())
        runtime.pending()
        runtime.counters()

    return see


def always(runtime: Runtime, listener: Callable[[Event], object]) -> None:
    """Subscribe ``listener`` anew after each event that it has failed at."""
    events = runtime.system.events

    def guarded(event: Event) -> None:
        if not isinstance(event, ListenerFailed):
            events.subscribe(guarded)  # those from now on are not of this event
            listener(event)
            raise Unfit

    events.subscribe(guarded)


async def hang(_state: object) -> None:
    await trio.sleep_forever()


async def fail_late(_state: object) -> None:
    await trio.sleep(0.01)
    raise Unfit


def simulated(scenario: Callable[[World], Any], *faults: Fault) -> Outcome[Any]:
    return simulate(
        scenario,
        seed=4,
        plan=FaultPlan(faults),
        settings=ServerSettings(base_model=BASE_MODEL, fwdbwd_max_chunk_len=2),
        config=Config.load(
            base_url="https://server", api_key="tml-test", environ={}, recovery=RecoveryPolicy(), outage_bound=600.0
        ),
    )


@pytest.mark.parametrize("observing", ["failing", "failing each time", "looking", "looking each time"])
def test_a_listener_that_fails_or_looks_at_everything_disturbs_nobody(observing: str) -> None:
    async def scenario(world: World) -> ProgramResults:
        runtime = world.runtime
        listener = fail if observing.startswith("failing") else look(runtime)
        if observing.endswith("each time"):
            always(runtime, listener)
        else:
            runtime.system.events.subscribe(listener)
        service = await runtime.create_service_client()
        return await run_program(PROGRAM, world.watch(await start_client(service)))

    outcome = simulated(scenario, *TROUBLE)
    failed = sum(isinstance(event, ListenerFailed) for event in outcome.events)
    assert failed > 20 if observing.endswith("each time") else failed == (observing == "failing")
    _check(outcome)


@pytest.mark.parametrize("observer", [hang, fail_late, fail], ids=["hangs", "fails late", "fails"])
def test_an_observer_of_the_queue_that_fails_or_hangs_disturbs_nobody(observer: Any) -> None:
    async def scenario(world: World) -> ProgramResults:
        service = await world.runtime.create_service_client()
        client = world.watch(await start_client(service))
        for _ in range(3):
            client.on_queue_state_change(observer)
        return await run_program(PROGRAM, client)

    _check(simulated(scenario, *TROUBLE))


def _check(outcome: Outcome[ProgramResults]) -> None:
    truth = expected(PROGRAM)
    assert {type(fired.fault) for fired in outcome.fired} == {type(fault) for fault in TROUBLE}
    assert outcome.value == truth.results
    assert outcome.models[0].digest == truth.digest
    crashes = [event.crash.text for event in outcome.events if isinstance(event, ActorCrashed)]
    assert len(crashes) == 2
    assert all(InjectedCrash.__name__ in text for text in crashes), crashes
    assert outcome.left == ()


def test_what_fails_to_start_tells_its_error_to_who_asked_whatever_listeners_do() -> None:
    async def scenario(world: World) -> tuple[list[str], list[str]]:
        runtime = world.runtime
        always(runtime, fail)
        service = await runtime.create_service_client()
        with pytest.raises(PermissionDeniedError, match="injected"):
            await start_client(service)
        started: list[str] = []
        runtime.system.events.subscribe(
            lambda event: started.append(event.path) if isinstance(event, ActorStarted) else None
        )
        client = await start_client(service)
        await (await client.optim_step(AdamParams()))
        return started, [client.model_id]

    outcome = simulated(scenario, Status(path=POLL, status=403))
    started, ids = outcome.value
    (crashed,) = [event for event in outcome.events if isinstance(event, ActorCrashed)]
    assert crashed.starting
    assert crashed.path.endswith("/training-0")
    assert [path.rpartition("/")[2] for path in started if "/training-" in path] == ["training-1"]
    assert ids
