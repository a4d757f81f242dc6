"""Runs under watch, and the runtime's own clients: what is lost is found, recovered, and watched again."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.clients.scenario import train
from tests.clients.test_epochs import lose_model, lose_session, rebuilt, steps
from tests.clients.test_triggers import corrupt
from tests.clients.test_verdicts import LOST, in_doubt
from tests.clients.test_verdicts import run as in_doubt_run
from tests.recovery.stand_ins import Runs, Service, checkpoint, heard, told
from tests.recovery.test_executor import ATTEMPT, DONE, crash, run
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.config import TRIGGERS, RecoveryPolicy
from tinker_actors.errors import (
    APIConnectionError,
    ClosedError,
    LaneStopped,
    ModelLost,
    NotFoundError,
    OutageError,
    RecoveryDisabled,
    TinkerError,
)
from tinker_actors.recovery.events import RecoveryCompleted, RecoveryDetected, RecoveryPollError
from tinker_actors.testing.faults import DropBefore
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams

POLICY = RecoveryPolicy(poll_interval=10.0)
DETECTED = ["RecoveryDetected", *ATTEMPT, *DONE]


async def minutes(count: int = 1) -> None:
    await trio.sleep(60.0 * count)


def test_a_corrupted_run_is_recovered_and_watched_again():
    async def story(world: World) -> tuple[Service, tuple[str, ...]]:
        recovery, runs = world.runtime.recovery, Runs(checkpoint("a"))
        service = Service(runs)
        await recovery.monitor_run("run", service, {"job": "mine"}, client="the old one")
        await minutes()
        runs.corrupted.add("run")
        await minutes()
        assert recovery.monitored() == ("made-0",)
        runs.corrupted.add("made-0")
        await minutes()
        return service, recovery.monitored()

    pairs: list[tuple[object, object]] = []
    policy = RecoveryPolicy(poll_interval=10.0, on_recovery=lambda old, new, path: pairs.append((old, new)))
    outcome = run(story, policy)
    service, monitored = outcome.value
    assert told(outcome, "run") == told(outcome, "made-0") == DETECTED
    assert [event.checkpoint for event in heard(outcome) if isinstance(event, RecoveryDetected)] == [
        "tinker://run/weights/a"
    ] * 2
    assert monitored == ("made-1",)
    assert {event.metadata["job"] for event in heard(outcome)} == {"mine"}
    assert pairs == [("the old one", service.made[0]), (service.made[0], service.made[1])]
    assert outcome.counters["runs_corrupted"] == 2


def test_a_run_at_the_server_is_recovered_with_what_it_had():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> tuple[str, str]:
        recovery, run_id = world.runtime.recovery, client.model_id
        before = await steps(client, 1)
        saved = (await (await client.save_state("kept")).result()).path
        await client.aclose()  # its run goes on at the server, as one of another program does
        await recovery.monitor_run(run_id, service)
        await minutes()
        assert told_now(world) == []
        world.service.models[run_id].corrupted = "damaged by hand"
        await minutes()
        (now,) = recovery.monitored()
        assert now != run_id
        assert before
        return saved, now

    outcome = train(story, recovery=POLICY)
    saved, now = outcome.value
    assert told(outcome) == DETECTED
    (completed,) = [event for event in heard(outcome) if isinstance(event, RecoveryCompleted)]
    assert (completed.checkpoint, completed.model_id, completed.attempt) == (saved, now, 1)


def told_now(world: World) -> tuple[Any, ...] | list[Any]:
    return world.runtime.recovery.recoveries() or []


def test_a_sound_run_is_left_alone_and_one_that_is_not_watched_not_asked_about():
    async def story(world: World) -> int:
        recovery, runs = world.runtime.recovery, Runs(checkpoint("a"))
        await recovery.monitor_run("run", Service(runs))
        await minutes()
        assert recovery.monitored() == ("run",)
        asked = len(runs.asked)
        assert recovery.stop_monitoring("run")
        assert not recovery.stop_monitoring("run")
        runs.corrupted.add("run")
        await minutes()
        assert len(runs.asked) == asked
        return asked

    outcome = run(story, POLICY)
    assert 6 <= outcome.value <= 8
    assert told(outcome) == []


def test_without_a_policy_nothing_is_watched_and_a_service_that_fails_is_told():
    class Failing(Service):
        async def create_rest_client(self) -> Runs:
            await trio.lowlevel.checkpoint()
            raise APIConnectionError("no way there")

    async def story(world: World) -> None:
        recovery = world.runtime.recovery
        with pytest.raises(RecoveryDisabled, match="recovery=False"):
            await recovery.monitor_run("run", Service(Runs()))
        with pytest.raises(APIConnectionError, match="no way there"):
            await recovery.monitor_run("run", Failing(Runs()), policy=POLICY)
        assert recovery.monitored() == ()
        await recovery.monitor_run_async("run", Service(Runs()), policy=POLICY)
        assert recovery.monitored() == ("run",)

    run(story, None)


def test_a_question_without_an_answer_is_told_and_the_run_stays():
    async def story(world: World) -> list[float]:
        recovery, runs = world.runtime.recovery, Runs(checkpoint("a"))
        runs.errors["run"] = NotFoundError(404, "no such run")
        await recovery.monitor_run("run", Service(runs))
        await minutes(2)
        assert recovery.monitored() == ("run",)
        asked = [when for when, _ in runs.asked]
        del runs.errors["run"]
        runs.corrupted.add("run")
        await minutes(2)
        return asked

    outcome = run(story, POLICY)
    first, second, third, *_ = outcome.value
    assert third - second > 1.4 * (second - first) > 10  # it is asked less and less often
    errors = [event.error for event in heard(outcome) if isinstance(event, RecoveryPollError)]
    assert len(errors) == len(outcome.value) == outcome.counters["recovery_poll_errors"]
    assert "no such run" in errors[0]
    assert told(outcome)[-len(DETECTED) :] == DETECTED


def test_a_run_whose_answer_does_not_come_delays_no_other():
    async def story(world: World) -> list[str]:
        recovery, runs = world.runtime.recovery, Runs(checkpoint("a"))
        runs.hang.add("slow")
        for name in ("slow", "quick"):
            await recovery.monitor_run(name, Service(runs))
        await minutes()
        return [name for _, name in runs.asked]

    outcome = run(story, POLICY)
    assert outcome.value.count("quick") >= 6
    assert [event.error for event in heard(outcome)][:1] == ["no answer within 10 s"]


def test_a_run_that_is_given_up_is_watched_no_more():
    async def story(world: World) -> tuple[str, ...]:
        recovery, runs = world.runtime.recovery, Runs()
        runs.corrupted.add("run")
        await recovery.monitor_run("run", Service(runs))
        await minutes(2)
        return recovery.monitored()

    outcome = run(story, POLICY)
    assert outcome.value == ()
    assert told(outcome) == ["RecoveryDetected", "RecoveryStarted", "RecoveryFailure", "RecoveryExhausted"]


@pytest.mark.parametrize("after", [5.0, 25.0, 61.0, 75.0])
@pytest.mark.parametrize("actor", ["monitor", "executor"])
def test_a_crash_forgets_no_run(actor: str, after: float):
    async def story(world: World) -> tuple[str, ...]:
        recovery, runs = world.runtime.recovery, Runs(checkpoint("a"))
        service = Service(runs)
        await recovery.monitor_run("run", service)

        async def crashes() -> None:
            await trio.sleep(after)
            crash(world, f"recovery/{actor}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(crashes)
            await minutes()
            runs.corrupted.add("run")
            await minutes()
        assert len(service.made) == 1
        return recovery.monitored()

    outcome = run(story, POLICY)
    assert outcome.value == ("made-0",)
    assert told(outcome) == DETECTED


@pytest.mark.parametrize("saved", [True, False])
def test_an_idle_client_whose_run_is_corrupted_goes_on_by_itself(saved: bool):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> tuple[list[float], Any]:
        losses = await steps(client, 1)
        path = (await (await client.save_state("kept")).result()).path if saved else None
        run_id = client.model_id
        if corrupted:
            await corrupt(world, client)
        await minutes()
        assert (client.model_id != run_id) == corrupted  # before anything is asked of it
        return losses + await steps(client, 2), (run_id, path, client)

    calls: list[tuple[object, object, object]] = []
    policy = RecoveryPolicy(poll_interval=10.0, on_recovery=lambda *told: calls.append(told))
    corrupted = False
    calm = train(story, recovery=policy)
    assert (told(calm), calls) == ([], [])
    corrupted = True
    broken = train(story, recovery=policy)
    losses, (run_id, path, client) = broken.value
    assert losses == calm.value[0]
    assert broken.models[0].digest == calm.models[0].digest
    assert told(broken) == ["RecoveryDetected", "RecoveryCompleted"]
    detected, completed = heard(broken)
    assert (detected.run_id, completed.run_id) == (run_id, run_id)
    assert isinstance(detected, RecoveryDetected)
    assert isinstance(completed, RecoveryCompleted)
    assert "corrupted" in detected.cause
    assert (completed.model_id, completed.checkpoint) == (broken.models[0].model_id, path)
    assert calls == [(client, client, path)]
    assert len(rebuilt(broken)) == 1


LOSSES: dict[str, Any] = {"session_lost": lose_session, "model_lost": lose_model, "run_corrupted": corrupt}


@pytest.mark.parametrize("trigger", LOSSES)
def test_without_replay_another_client_takes_over(trigger: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> Any:
        await steps(client, 1)
        path = (await (await client.save_state("kept")).result()).path
        await steps(client, 2)
        await LOSSES[trigger](world, client)
        if trigger == "model_lost":
            with pytest.raises(TinkerError):
                await steps(client, 3)
        await minutes()
        ((old, new, at),) = calls
        assert (old, at) == (client, path)
        with pytest.raises((LaneStopped, ModelLost)):
            await client.optim_step(AdamParams())
        world.watch(new)
        await steps(new, 4)
        assert world.runtime.recovery.monitored() == ()

    calls: list[Any] = []
    policy = RecoveryPolicy(replay=False, poll_interval=10.0, on_recovery=lambda *told: calls.append(told))

    async def undisturbed(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1, 4)

    outcome = train(story, recovery=policy)
    assert told(outcome) == DETECTED
    assert outcome.models[1].digest == train(undisturbed).models[0].digest


@pytest.mark.parametrize("trigger", ["lane_stopped", "client_degraded"])
@pytest.mark.parametrize("named", [True, False])
def test_a_client_that_is_over_is_recovered_where_the_policy_says_so(trigger: str, named: bool):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> Any:
        await steps(client, 1)
        await (await client.save_state("kept")).result()
        if trigger == "lane_stopped":
            with pytest.raises(OutageError):
                await steps(client, 2)
        else:
            for _ in range(12):
                if world.runtime.tree().find(PATH).state == "running":
                    crash(world, PATH.removeprefix("runtime/"))
                await trio.sleep(6)
        await minutes(10)

    faults = [DropBefore(path="/optim_step", nth=2, times=400)]
    policy = RecoveryPolicy(triggers=TRIGGERS if named else TRIGGERS[:5])
    outcome = train(story, *(faults if trigger == "lane_stopped" else ()), recovery=policy, outage_bound=30.0)
    assert told(outcome) == (DETECTED if named else [])


PATH = "runtime/sessions/session-0/clients/training-0"


def test_a_rebuild_that_is_given_up_is_told():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> str:
        await steps(client, 1)
        run_id = client.model_id
        await lose_model(world, client)
        with pytest.raises(ModelLost):
            await steps(client, 2)
        await minutes()
        return run_id

    reasons: list[tuple[str, str]] = []
    policy = RecoveryPolicy(
        replay_bytes=1,
        spill_bytes=0,
        when_full="forget",
        checkpoints=None,
        on_failure=lambda *told: reasons.append(told),
    )
    outcome = train(story, recovery=policy)
    ((run_id, reason),) = reasons
    assert run_id == outcome.value
    assert "can't be rebuilt" in reason
    assert told(outcome) == ["RecoveryDetected", "RecoveryExhausted"]


def test_a_closed_client_is_asked_about_no_more():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> tuple[float, float]:
        await minutes(5)
        asked = world.runtime.counters()["rest_requests"]
        await client.aclose()
        await minutes(5)
        return asked, world.runtime.counters()["rest_requests"]

    asked, after = train(story, recovery=POLICY).value
    assert asked == after
    assert 28 <= asked <= 42


@pytest.mark.parametrize("moment", ["in facts", "before"])
def test_what_has_become_known_outlives_the_monitor(moment: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await steps(client, 1)
        await lose_session(world, client)
        if moment == "before":
            crash(world, "recovery/monitor")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(steps, client, 2)
            await trio.sleep(0.2)
            crash(world, "recovery/monitor")
        await minutes()

    outcome = train(story, recovery=POLICY)
    assert told(outcome) == ["RecoveryDetected", "RecoveryCompleted"]


def test_when_nobody_watches_any_more_that_is_said():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        recovery = world.runtime.recovery
        await recovery.monitor_run("run", Service(Runs()))
        for _ in range(12):
            if world.runtime.tree().find("runtime/recovery/monitor").state == "running":
                crash(world, "recovery/monitor")
            await trio.sleep(5)
        assert recovery.monitored() == ()
        with pytest.raises(ClosedError, match="the Monitor is no more"):
            await recovery.monitor_run("run", Service(Runs()))
        await recovery.recover("run", Service(Runs(checkpoint("a"))))
        await steps(client, 1)

    train(story, recovery=POLICY)


@pytest.mark.parametrize("way", ["abandon", "unload_model"])
def test_what_its_user_abandons_is_not_recovered(way: str):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await in_doubt(client)
        await getattr(client, way)()
        await minutes()

    policy = RecoveryPolicy(triggers=TRIGGERS, unknown_outcome="ask")
    outcome = in_doubt_run(story, LOST, recovery=policy)
    assert told(outcome) == []
