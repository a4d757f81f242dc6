"""Faults of server and client happen in a simulation as their kinds say, and its run ends as they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from supervision import ActorCrashed
from tinker_actors.clients.training.events import ModelRebuilt
from tinker_actors.config import Config, RecoveryPolicy
from tinker_actors.errors import InvalidInput
from tinker_actors.flow.pending import Pending
from tinker_actors.local import ServerSettings
from tinker_actors.ports.time_of_day import time_of_day
from tinker_actors.testing.faults import (
    BlockLoop,
    CancelCaller,
    CorruptModels,
    CrashActor,
    Delay,
    ExpireSessions,
    Fault,
    FaultPlan,
    JumpClock,
    LosePromises,
    LostSync,
    PauseQueue,
    RestartServer,
    TornWrite,
)
from tinker_actors.testing.operations import (
    BASE_MODEL,
    Await,
    ForwardBackward,
    OptimStep,
    Program,
    ProgramResults,
    SaveState,
    run_program,
    start_client,
)
from tinker_actors.testing.oracle import expected
from tinker_actors.testing.simulation import Outcome, World, simulate
from tinker_actors.types import AdamParams

PROGRAM = Program(
    steps=(
        ForwardBackward(seeds=(1, 2, 3)),
        OptimStep(),
        SaveState(),
        ForwardBackward(seeds=(4,)),
        OptimStep(),
        Await(),
        ForwardBackward(seeds=(5,)),
        OptimStep(),
    )
)
POLL = "/retrieve_future"


def run(*faults: Fault, **settings: Any) -> Outcome[ProgramResults]:
    async def scenario(world: World) -> ProgramResults:
        service = await world.runtime.create_service_client()
        return await run_program(PROGRAM, world.watch(await start_client(service)))

    return simulate(
        scenario,
        seed=5,
        plan=FaultPlan(faults),
        settings=ServerSettings(base_model=BASE_MODEL, fwdbwd_max_chunk_len=2, **settings),
        config=Config.load(
            base_url="https://server", api_key="tml-test", environ={}, recovery=RecoveryPolicy(), outage_bound=600.0
        ),
    )


def check(outcome: Outcome[ProgramResults]) -> None:
    truth = expected(PROGRAM)
    assert outcome.value.losses == truth.results.losses
    assert outcome.models[0].digest == truth.digest


@pytest.mark.parametrize(
    ("fault", "rebuilt"),
    [
        (LosePromises(path="/optim_step", nth=2, later=0.001), True),
        (PauseQueue(path="/optim_step", nth=2, seconds=100.0), False),
        (ExpireSessions(path=POLL, nth=6), True),
        (CorruptModels(path=POLL, nth=6), True),
        (RestartServer(path=POLL, nth=6, keeps="memory", down=20.0), False),
        (RestartServer(path=POLL, nth=6, keeps="disk", down=20.0), True),
        (RestartServer(path=POLL, nth=6, keeps="nothing", down=20.0), True),
        (BlockLoop(step=150, seconds=50.0), False),
    ],
    ids=str,
)
def test_what_a_server_suffers_is_made_good(fault: Fault, rebuilt: bool) -> None:
    outcome = run(fault)
    assert [fired.fault for fired in outcome.fired] == [fault]
    check(outcome)
    assert any(isinstance(event, ModelRebuilt) for event in outcome.events) is rebuilt
    if (down := getattr(fault, "down", None) or getattr(fault, "seconds", None)) is not None:
        assert outcome.seconds > down


@pytest.mark.parametrize("actor", ["training-0", "heartbeat", "manager", "service", "queue-observer", "telemetry"])
def test_any_actor_crashes_at_a_step(actor: str) -> None:
    outcome = run(CrashActor(step=150, actor=actor))
    (fired,) = outcome.fired
    assert fired.subject.endswith(actor)
    assert [event.path for event in outcome.events if isinstance(event, ActorCrashed)] == [fired.subject]
    check(outcome)


@pytest.mark.parametrize("seconds", [-7200.0, 7200.0])
@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
def test_a_token_that_a_jump_of_a_clock_ends_is_exchanged_anew_and_no_other(seconds: float, client: bool) -> None:
    fault = JumpClock(path="/optim_step", nth=2, seconds=seconds, client=client)
    counted = Delay(path="/auth/token", times=99, seconds=0.0)
    outcome = run(fault, counted, pjwt_auth_enabled=True, jwt_lifetime=3600.0)
    fired = [fired.fault for fired in outcome.fired]
    assert fired == ([counted, fault, counted] if seconds > 0 and not client else [counted, fault])
    check(outcome)


@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
def test_one_clock_jumps_and_the_other_goes_on(client: bool) -> None:
    async def scenario(world: World) -> list[float]:
        before = (time_of_day(), world.service.now())
        await world.runtime.create_service_client()
        await trio.sleep(10)
        after = (time_of_day(), world.service.now())
        return [(late - early).total_seconds() for early, late in zip(before, after, strict=True)]

    plan = FaultPlan((JumpClock(path="/create_session", seconds=-1000.0, client=client),))
    passed = simulate(scenario, seed=1, plan=plan).value
    jumped, other = passed if client else reversed(passed)
    assert jumped == pytest.approx(other - 1000.0)


@pytest.mark.parametrize(
    "fault", [TornWrite(nth=2), LostSync(nth=2), LostSync(nth=1), TornWrite(nth=1, times=3)], ids=str
)
def test_a_death_at_the_disk_leaves_what_its_kind_says_to_the_next_process(fault: TornWrite | LostSync) -> None:
    path = Path("/file")
    found: list[bytes | None] = []

    async def scenario(world: World) -> int:
        found.append(None if await world.disk.size(path) is None else await world.disk.read(path))
        if len(found) <= fault.times:
            for data in (b"first", b"more"):
                await world.disk.append(path, (data,))
                await world.disk.sync(path)
        return len(found)

    outcome = simulate(scenario, seed=3, plan=FaultPlan((fault,)))
    assert outcome.value == 1 + fault.times
    assert [fired.fault for fired in outcome.fired] == [fault] * fault.times
    before = b"first" if fault.nth == 2 else b""
    for left in found[1:]:
        if isinstance(fault, LostSync):
            assert left == (before or None)
        else:
            assert left is not None
            assert left.startswith(before)
            assert not left.endswith((b"first", b"more"))
            before = left


def test_nobody_dies_at_a_disk_that_the_program_does_not_use_any_more() -> None:
    async def scenario(world: World) -> None:
        await world.disk.append(Path("/file"), (b"some",))

    assert simulate(scenario, seed=1, plan=FaultPlan((TornWrite(nth=2), LostSync()))).fired == ()


async def tick() -> None:
    for _ in range(100):
        await trio.sleep(1)


def test_the_caller_that_has_waited_longest_is_cancelled() -> None:
    async def scenario(world: World) -> list[bool]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick)
            with world.calling("first") as first, world.calling("second") as second:
                await trio.sleep(50)
            with world.calling("third") as third:
                await trio.sleep(10)
        return [first.cancelled_caught, second.cancelled_caught, third.cancelled_caught]

    outcome = simulate(scenario, seed=1, plan=FaultPlan((CancelCaller(step=5), CancelCaller(step=1_000_000))))
    assert outcome.value == [True, False, False]
    assert [fired.subject for fired in outcome.fired] == ["first"]


def test_what_waits_says_that_the_queue_is_paused() -> None:
    async def scenario(world: World) -> tuple[Pending, ...]:
        service = await world.runtime.create_service_client()
        client = await start_client(service)
        step = await client.optim_step(AdamParams())
        await trio.sleep(60)
        waiting = world.runtime.pending()
        await step
        return waiting

    plan = FaultPlan((PauseQueue(path="/optim_step", seconds=100.0),))
    (waiting,) = simulate(scenario, seed=1, plan=plan).value
    assert waiting.state == "server paused_capacity"
    assert "1 other(s) have work" in waiting.reason


@pytest.mark.parametrize("plan", [[], "plan", (CrashActor(actor="training-0", step=1),), {}])
def test_what_is_no_plan_is_refused(plan: Any) -> None:
    async def scenario(_: World) -> None:
        pytest.fail("it has begun")

    with pytest.raises(InvalidInput, match=f"plan: is of type {type(plan).__name__}"):
        simulate(scenario, seed=1, plan=plan)
