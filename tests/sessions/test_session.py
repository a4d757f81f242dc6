"""A session: created once, kept alive, finished; lost when the server says so."""

from __future__ import annotations

import pytest
import trio

from tests.clients.scenario import train
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.config import Config
from tinker_actors.errors import APIConnectionError, ClosedError, ModelLost
from tinker_actors.local import ServerSettings
from tinker_actors.sessions import SessionLost, SessionState
from tinker_actors.testing.faults import CrashAt, DropAfter, DropBefore, FaultPlan, Status
from tinker_actors.testing.operations import BASE_MODEL, PROMPT
from tinker_actors.testing.simulation import World, simulate
from tinker_actors.types import AdamParams, SessionCancelled


async def rest(world: World, service: ServiceClient, client: TrainingClient) -> None:
    await trio.sleep(100)


def test_it_beats_about_every_ten_seconds():
    assert 8 <= train(rest).counters["heartbeats"] <= 12


def test_lost_beats_are_counted_and_do_no_harm():
    outcome = train(rest, DropBefore(path="/session_heartbeat", nth=2, times=3))

    assert outcome.counters["heartbeats_missed"] == 3
    assert outcome.counters["heartbeats"] >= 5


def test_a_crashed_heartbeat_goes_on_beating():
    outcome = train(rest, CrashAt(point="session.heartbeat", nth=3))
    assert outcome.counters["heartbeats"] >= 7


def test_a_lost_reply_to_its_creation_is_mended():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        assert service.session_id in {session.session_id for session in world.service.sessions.alive()}
        await (await client.optim_step(AdamParams()))
        return service.state

    assert train(story, DropAfter(path="/create_session", times=2)).value is SessionState.ACTIVE


def test_the_server_may_end_it():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        while service.state is SessionState.ACTIVE:  # noqa: ASYNC110  # as a user's program would
            await trio.sleep(1)
        assert service.state is SessionState.LOST
        with pytest.raises(ModelLost, match="server has ended"):
            await service.create_lora_training_client(BASE_MODEL, rank=2)

    train(story, Status(path="/session_heartbeat", nth=2, status=410))


def test_a_lost_one_is_told_once_as_an_event():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> str:
        other = await world.runtime.create_service_client()
        await trio.sleep(100)
        assert {service.state, other.state} == {SessionState.ACTIVE, SessionState.LOST}
        return service.session_id if service.state is SessionState.LOST else other.session_id

    outcome = train(story, Status(path="/session_heartbeat", nth=5, status=404))
    (lost,) = [event for event in outcome.events if isinstance(event, SessionLost)]
    assert lost.session_id == outcome.value
    assert lost.path in ("runtime/sessions/session-0", "runtime/sessions/session-1")
    assert lost.reason
    assert outcome.counters["sessions_lost"] == 1


@pytest.mark.parametrize("training", [True, False], ids=["training", "sampling"])
def test_a_client_that_meets_its_end_has_it_noticed_before_the_next_beat(training: bool):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> float:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        (session,) = world.service.sessions.alive()
        await trio.sleep(10.5)
        await world.service.end_session(session, "was ended by hand", SessionCancelled(), abandon=True)
        began = trio.current_time()
        with pytest.raises(ModelLost):
            await (await client.optim_step(AdamParams()) if training else sampler.sample(PROMPT))
        await trio.sleep(2.0)
        assert service.state is SessionState.LOST
        assert trio.current_time() - began < 5.0
        return began

    train(story)


def test_doubts_that_are_wrong_cost_one_beat_a_second_at_most():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> int:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        found = world.service.samplers.find(sampler.sampling_session_id)
        assert found is not None
        world.service.samplers.forget(found)
        began, before = trio.current_time(), world.runtime.counters().get("heartbeats", 0)
        while trio.current_time() - began < 30.0:
            with pytest.raises(ModelLost):
                await sampler.sample(PROMPT)
        assert service.state is SessionState.ACTIVE
        return world.runtime.counters()["heartbeats"] - before

    assert 10 <= train(story).value <= 31


def test_closing_it_finishes_it_at_the_server_and_closes_its_clients():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        await (await client.optim_step(AdamParams()))
        await service.aclose()
        assert service.state is SessionState.FINISHED
        with pytest.raises(ClosedError):
            await client.optim_step(AdamParams())
        with pytest.raises(ClosedError, match="closed"):
            await service.create_sampling_client(base_model=BASE_MODEL)
        await service.aclose()
        assert world.service.sessions.alive() == ()

    train(story)


def test_nobody_answers():
    async def scenario(world: World) -> None:
        world.network.kill()
        started = trio.current_time()
        with pytest.raises(APIConnectionError, match="refused"):
            await world.runtime.create_service_client()
        assert trio.current_time() - started <= 25

    simulate(
        scenario,
        seed=0,
        plan=FaultPlan(),
        settings=ServerSettings(base_model=BASE_MODEL),
        config=Config.load(base_url="https://server", api_key="tml-test", environ={}),
    )
