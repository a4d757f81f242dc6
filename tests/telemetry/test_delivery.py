"""Events get through in the end, each once, within bounds; what does not is counted and told."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from supervision import ActorDegraded, StopReason
from tests.telemetry.reporting import SESSION, crash, names, report, telemetry_of
from tinker_actors.clients import ServiceClient
from tinker_actors.errors import APITimeoutError
from tinker_actors.metrics import Metrics
from tinker_actors.ports.time_of_day import time_of_day
from tinker_actors.sessions import SessionState
from tinker_actors.telemetry import Telemetry
from tinker_actors.testing.faults import CrashAt, Delay, DropAfter, DropBefore, Status
from tinker_actors.testing.operations import start_client
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, TelemetryBatch
from tinker_actors.wire.endpoints.telemetry import send_telemetry

PATH = "/telemetry"
LONG = 10_000


@pytest.mark.parametrize(
    "fault",
    [
        Status(path=PATH, times=3, status=500),
        Status(path=PATH, times=3, status=500, after=True),
        Status(path=PATH, times=3, status=429, retry_after=20.0),
        Status(path=PATH, times=3, status=401),
        DropBefore(path=PATH, times=3),
        DropAfter(path=PATH, times=3),
        Delay(path=PATH, seconds=100, times=3),
    ],
    ids=lambda fault: f"{type(fault).__name__} {getattr(fault, 'status', '')}",
)
def test_a_batch_that_fails_is_sent_again_under_the_same_ids(fault: Any):
    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        telemetry.log("one")
        telemetry.flush_soon()
        await trio.sleep(300)
        assert telemetry.status().waiting == telemetry.status().lost == 0
        return names(world, service)

    outcome = report(story, fault)
    assert outcome.value == ["SESSION_START", "one"]
    assert outcome.counters["telemetry_events_sent"] == 2
    assert [fired.fault for fired in outcome.fired] == [fault] * 3
    first, second, third = (fired.at for fired in outcome.fired)
    waited = 20.0 if getattr(fault, "retry_after", None) else 60.0 if getattr(fault, "status", 0) == 401 else 1.0
    assert second - first >= waited
    assert third - second >= max(2.0, waited)


def test_it_says_once_that_telemetry_can_not_be_sent(caplog: pytest.LogCaptureFixture):
    async def story(world: World, service: ServiceClient):
        telemetry_of(service).flush_soon()
        await trio.sleep(300)

    with caplog.at_level(logging.WARNING, "tinker_actors.telemetry"):
        report(story, Status(path=PATH, times=5, status=500))
    assert caplog.text.count("telemetry could not be sent") == 1


def test_a_server_without_the_endpoint_is_left_alone(caplog: pytest.LogCaptureFixture):
    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        for number in range(20):
            telemetry.log(f"no. {number}")
            await trio.sleep(10)
        assert telemetry.status().lost == 21
        return world.runtime.counters()["telemetry_requests"]

    with caplog.at_level(logging.WARNING, "tinker_actors.telemetry"):
        outcome = report(story, Status(path=PATH, times=LONG, status=404))
    assert outcome.value <= 21
    assert outcome.counters["telemetry_events_lost"] == 21
    assert 1 <= caplog.text.count("takes no telemetry") <= 6  # at 1, 2, 4, 8, 16


def test_of_a_refused_batch_only_the_event_that_is_refused_is_lost():
    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        for number in range(7):
            telemetry.log(f"no. {number}")
        assert not await telemetry.flush()
        status = telemetry.status()
        assert (status.recorded, status.sent, status.lost, status.waiting) == (8, 7, 1, 0)
        return names(world, service)

    # 8, 4, 2 and 1 events are refused, the first of all in the end
    assert report(story, Status(path=PATH, times=4, status=422)).value == [f"no. {number}" for number in range(7)]


def test_a_server_that_refuses_everything_is_not_asked_for_each_event():
    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        for _ in range(5):
            for number in range(1_000):
                telemetry.log(f"no. {number}")
            await telemetry.flush()
        assert telemetry.status().lost == 5_001
        return world.runtime.counters()["telemetry_requests"]

    assert report(story, Status(path=PATH, times=LONG, status=400)).value < 100


def test_the_end_of_a_session_waits_for_its_last_events_within_a_bound():
    async def closing(world: World, service: ServiceClient):
        telemetry_of(service).log("one")
        began = trio.current_time()
        await service.aclose()
        return trio.current_time() - began, names(world, service)

    async def failing_before(world: World, service: ServiceClient):
        await trio.sleep(30)
        return await closing(world, service)

    seconds, told = report(closing).value
    assert seconds < 1
    assert told == ["SESSION_START", "one", "SESSION_END"]
    seconds, told = report(closing, Status(path=PATH, status=500)).value
    assert 1 < seconds < 2
    assert told == ["SESSION_START", "one", "SESSION_END"]
    for fault in (Delay(path=PATH, seconds=1000, times=LONG), Status(path=PATH, times=LONG, status=503)):
        seconds, _ = report(closing, fault).value
        assert 5 <= seconds < 6
        seconds, _ = report(failing_before, fault).value
        assert 1 <= seconds < 2


def test_what_is_lost_at_the_end_is_counted_and_told(caplog: pytest.LogCaptureFixture):
    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        telemetry.log("one")
        await service.aclose()
        status = telemetry.status()
        assert not status.alive
        return status.recorded, status.sent, status.waiting, status.lost

    outcome = report(story, DropBefore(path=PATH, times=LONG))
    assert outcome.value == (3, 0, 0, 3)
    assert "3 events are lost" in caplog.text


def test_a_session_that_the_server_never_created_is_told_as_that(caplog: pytest.LogCaptureFixture):
    async def end() -> None:
        telemetry = Telemetry(salt=1, redact=str, metrics=Metrics(), now=time_of_day)
        telemetry.record("one", {})
        telemetry.close(StopReason("shutdown"))

    trio.run(end)
    assert "telemetry of a session that was not created: 1 events are lost" in caplog.text


def test_a_session_that_ends_waits_visibly():
    async def story(world: World, service: ServiceClient):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.aclose)
            await trio.sleep(2)
            return [row.kind for row in world.runtime.pending()]

    assert report(story, Delay(path=PATH, seconds=1000, times=LONG)).value == ["send_telemetry"]


@pytest.mark.parametrize("actor", ["telemetry", "telemetry-sender"])
@pytest.mark.parametrize("point", [None, "telemetry.before_send", "telemetry.sent"])
def test_a_crash_of_either_loses_no_event(actor: str, point: str | None):
    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        telemetry.log("one")
        await crash(world, f"{SESSION}/{actor}")
        telemetry.log("two")
        await trio.sleep(1)
        telemetry.log("three")
        await telemetry.flush()
        await trio.sleep(15)
        assert service.state is SessionState.ACTIVE
        await service.aclose()
        return names(world, service)

    faults = [] if point is None else [CrashAt(point=point)]
    assert report(story, *faults).value == ["SESSION_START", "one", "two", "three", "SESSION_END"]


@pytest.mark.parametrize("actor", ["telemetry", "telemetry-sender"])
def test_one_that_crashes_again_and_again_ends_degraded_and_alone(actor: str, caplog: pytest.LogCaptureFixture):
    async def story(world: World, service: ServiceClient):
        client = await start_client(service)
        for _ in range(4):
            await crash(world, f"{SESSION}/{actor}")
            await trio.sleep(5)
        await (await client.optim_step(AdamParams()))
        assert service.state is SessionState.ACTIVE
        telemetry = telemetry_of(service)
        taken = telemetry.log("one")
        assert telemetry.status().alive is taken is (actor == "telemetry")
        began = trio.current_time()
        await telemetry.flush()
        assert trio.current_time() - began < 1
        await service.aclose()

    outcome = report(story)
    assert [event.path for event in outcome.events if isinstance(event, ActorDegraded)] == [f"{SESSION}/{actor}"]


def test_a_full_backlog_refuses_what_is_new_and_says_so(caplog: pytest.LogCaptureFixture):
    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        taken = [telemetry.log(f"no. {number}") for number in range(12_000)]
        assert taken == [True] * 9_999 + [False] * 2_001
        assert telemetry.status().lost == 2_001
        await trio.sleep(60)
        assert await telemetry.flush(100)
        return telemetry.status().sent, world.service.reports.of(service.session_id)[-1].fields["event_name"]

    with caplog.at_level(logging.WARNING, "tinker_actors.telemetry"):
        assert report(story).value == (10_000, "no. 9998")
    assert caplog.text.count("too many wait to be sent") == 11


def test_a_repeated_batch_has_its_key_again_and_a_larger_one_another(monkeypatch: pytest.MonkeyPatch):
    tried: list[tuple[str, int, list[str]]] = []

    async def send(api: Any, batch: TelemetryBatch, *, key: str, attempt: int) -> None:
        tried.append((key, attempt, [event.event_id for event in batch.events]))
        if len(tried) < 4:
            raise APITimeoutError("lost")
        await send_telemetry(api, batch, key=key, attempt=attempt)

    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        telemetry.flush_soon()
        await trio.sleep(1.5)  # two tries of the start alone
        telemetry.log("one")
        assert await telemetry.flush(60)  # and two with what came after

    monkeypatch.setattr("tinker_actors.telemetry.sender.send_telemetry", send)
    report(story)
    first, again, larger, last, _end = tried
    assert first[0] == again[0]
    assert larger[0] == last[0] != first[0]
    assert [attempt for _, attempt, _ in tried] == [0, 1, 2, 3, 0]
    assert first[2] == again[2] == larger[2][:1]
    assert len(larger[2]) == 2


@pytest.mark.parametrize("point", ["telemetry.before_send", "telemetry.sent"])
def test_a_crash_does_not_take_the_last_events_along(point: str):
    async def story(world: World, service: ServiceClient):
        telemetry_of(service).log("one")
        await service.aclose()
        return names(world, service), telemetry_of(service).status().lost

    assert report(story, CrashAt(point=point)).value == (["SESSION_START", "one", "SESSION_END"], 0)
