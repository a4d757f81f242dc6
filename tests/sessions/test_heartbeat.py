"""Heartbeats: each session's own, patient with servers, and loud when they are not heard for long."""

from __future__ import annotations

import pytest
import trio

from tests.clients.scenario import train
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.sessions import SessionState
from tinker_actors.testing.faults import Delay, Fault, Status
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams


def rest(seconds: float, *faults: Fault) -> tuple[SessionState, dict[str, int]]:
    """The state of a session after so many seconds, and what was counted."""

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> SessionState:
        await trio.sleep(seconds)
        await (await client.optim_step(AdamParams()))
        return service.state

    outcome = train(story, *faults)
    return outcome.value, outcome.counters


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_a_beat_that_is_refused_keeps_the_session_and_is_told_after_two_minutes(
    status: int, caplog: pytest.LogCaptureFixture
):
    assert rest(100.0, Status(path="/session_heartbeat", status=status, times=1000))[0] is SessionState.ACTIVE
    assert "no heartbeat" not in caplog.text
    assert rest(200.0, Status(path="/session_heartbeat", status=status, times=1000))[0] is SessionState.ACTIVE
    assert caplog.text.count("no heartbeat of session") == 1
    caplog.clear()
    rest(570.0, Status(path="/session_heartbeat", status=status, times=1000))
    assert caplog.text.count("no heartbeat of session") == 3  # after 2, 4 and 8 minutes, and not at every beat


def test_one_that_is_heard_begins_the_two_minutes_anew(caplog: pytest.LogCaptureFixture):
    faults = [Status(path="/session_heartbeat", status=500, nth=nth, times=9) for nth in (1, 11, 21)]
    state, counters = rest(300.0, *faults)
    assert state is SessionState.ACTIVE
    assert counters["heartbeats_missed"] >= 20
    assert "no heartbeat" not in caplog.text


def test_a_beat_that_hangs_delays_no_other_session():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> int:
        other = await world.runtime.create_service_client()
        await trio.sleep(12.5)  # each has begun its first beat; one of the two hangs for ten seconds
        heard = world.runtime.counters().get("heartbeats", 0)
        await trio.sleep(100.0)
        assert other.state is service.state is SessionState.ACTIVE
        return heard

    assert train(story, Delay(path="/session_heartbeat", seconds=10_000.0)).value == 1


@pytest.mark.parametrize("seconds", [15.0, 59.0])
def test_a_creation_that_takes_long_still_succeeds(seconds: float):
    state, _ = rest(1.0, Delay(path="/create_session", seconds=seconds))
    assert state is SessionState.ACTIVE
