"""What the server is told of a session, from its start to its end."""

from __future__ import annotations

import datetime
import logging
from typing import Any

import pytest
import trio

from supervision import ActorDegraded
from tests.telemetry.reporting import SESSION, Planted, crash, names, report, reported, telemetry_of
from tinker_actors.clients import ServiceClient
from tinker_actors.errors import InvalidInput, WrongPlace, status_error
from tinker_actors.sessions import SessionState
from tinker_actors.testing.faults import CrashAt, Delay, DropAfter, DropBefore, Status
from tinker_actors.testing.operations import BASE_MODEL, start_client
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, Severity

PATH = "/telemetry"
LONG = 10_000


def test_a_session_s_start_its_events_and_its_end_arrive_in_order():
    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        assert telemetry.log("one", {"a": 1})
        assert telemetry.log("two", severity="warning")
        await service.aclose()
        return names(world, service), reported(world, service)

    kinds, events = report(story).value
    assert kinds == ["SESSION_START", "one", "two", "SESSION_END"]
    assert [event.fields["event_session_index"] for event in events] == [0, 1, 2, 3]
    assert [event.fields["severity"] for event in events] == ["INFO", "INFO", "WARNING", "INFO"]
    assert [event.times for event in events] == [1, 1, 1, 1]
    assert events[1].fields["event_data"] == {"a": 1}
    assert len({event.event_id for event in events}) == 4
    for event in events:
        assert datetime.datetime.fromisoformat(event.fields["timestamp"]).tzinfo is not None


def test_the_end_says_how_long_the_session_was_and_comes_once():
    async def story(world: World, service: ServiceClient):
        await trio.sleep(75)
        telemetry = telemetry_of(service)
        await service.aclose()
        await service.aclose()
        telemetry.end()
        assert not telemetry.log("late")
        assert not telemetry.log_exception(KeyError())
        return [event.fields["duration"] for event in reported(world, service) if event.kind == "SESSION_END"]

    (duration,) = report(story).value
    assert duration.startswith("0:01:15")


def test_the_same_event_has_the_same_id_in_the_same_run_and_another_in_another_process():
    async def story(world: World, service: ServiceClient):
        telemetry_of(service).log("one")
        await service.aclose()
        return [event.event_id for event in reported(world, service)]

    first = report(story).value
    assert report(story).value == first
    assert set(report(story, seed=2).value).isdisjoint(first)


def test_events_go_out_every_ten_seconds_by_one_timer():
    async def story(world: World, service: ServiceClient):
        seen: list[tuple[float, int]] = []
        telemetry = telemetry_of(service)
        began = trio.current_time()
        for burst in range(8):
            telemetry.log(f"burst {burst}")
            await trio.sleep(5)
            for _ in range(
                250
            ):  # more than what is sent before its time: no such burst may bring another timer along
                telemetry.log("many")
            await telemetry.flush()
            seen.append((trio.current_time() - began, len(reported(world, service))))
        before = world.runtime.counters()["telemetry_requests"]
        for _ in range(60):
            telemetry.log("one a second")
            await trio.sleep(1)
        return world.runtime.counters()["telemetry_requests"] - before

    assert 5 <= report(story).value <= 7


def test_a_hundred_events_do_not_wait_for_the_timer():
    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        for _ in range(98):
            telemetry.log("many")
        await trio.sleep(1)
        assert reported(world, service) == ()  # with the start they are 99
        telemetry.log("one more")
        await trio.sleep(1)
        return len(reported(world, service))

    assert report(story).value == 100


def test_a_flush_waits_until_the_server_has_everything():
    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        telemetry.log("one")
        began = trio.current_time()
        assert await telemetry.flush()
        assert names(world, service) == ["SESSION_START", "one"]
        assert trio.current_time() - began >= 3
        status = telemetry.status()
        assert (status.recorded, status.sent, status.waiting, status.lost) == (2, 2, 0, 0)
        began = trio.current_time()
        assert await telemetry.flush()  # nothing to wait for
        assert trio.current_time() == began
        telemetry.log("two")
        telemetry.flush_soon()
        await trio.sleep(1)
        return names(world, service)

    assert report(story, Delay(path=PATH, seconds=3, reply=True)).value == ["SESSION_START", "one", "two"]


def test_a_flush_ends_at_its_bound():
    async def story(world: World, service: ServiceClient):
        began = trio.current_time()
        assert not await telemetry_of(service).flush(2.5)
        return trio.current_time() - began

    assert report(story, Status(path=PATH, times=LONG, status=500)).value == pytest.approx(2.5)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", None])
def test_what_is_no_time_to_wait(timeout: Any):
    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        with pytest.raises(InvalidInput, match="timeout"):
            await telemetry.flush(timeout)
        with pytest.raises(InvalidInput, match="timeout"):
            await telemetry.log_fatal_exception(KeyError(), timeout=timeout)

    report(story)


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


def test_crashes_of_the_session_s_actors_are_reported_and_those_of_others_are_not():
    async def story(world: World, service: ServiceClient):
        other = await world.runtime.create_service_client()
        await crash(world, f"{SESSION}/clients/service")
        await trio.sleep(20)
        assert service.state is SessionState.ACTIVE  # the crash ends nothing
        assert names(world, other) == ["SESSION_START"]
        return reported(world, service)

    start, crashed, restarted = report(story).value
    assert start.kind == "SESSION_START"
    assert crashed.kind == "UNHANDLED_EXCEPTION"
    assert crashed.fields["error_type"] == "Planted"
    assert f"{SESSION}/clients/service" in crashed.fields["traceback"]
    assert crashed.fields["severity"] == "ERROR"
    assert restarted.fields["event_name"] == "actor.restarted"
    assert restarted.fields["severity"] == "INFO"
    assert restarted.fields["event_data"] == {"actor": "clients/service", "incarnation": 2}


def test_an_actor_that_is_given_up_is_reported():
    async def story(world: World, service: ServiceClient):
        for _ in range(11):
            await crash(world, f"{SESSION}/clients/service")
            await trio.sleep(0.01)
        await telemetry_of(service).flush()
        return [event for event in reported(world, service) if event.fields.get("event_name") == "actor.degraded"]

    (event,) = report(story).value
    assert event.fields["severity"] == "ERROR"
    assert event.fields["event_data"]["actor"] == "clients/service"


def test_a_fatal_exception_is_sent_at_once_and_ends_no_session():
    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        began = trio.current_time()
        assert await telemetry.log_fatal_exception(Planted("it is over"))
        assert trio.current_time() - began < 1
        event = reported(world, service)[1]
        assert event.kind == "UNHANDLED_EXCEPTION"
        assert event.fields["severity"] == "CRITICAL"
        assert (event.fields["error_type"], event.fields["error_message"]) == ("Planted", "it is over")
        assert event.fields["traceback"]
        client = await start_client(service)
        await (await client.optim_step(AdamParams()))
        assert telemetry.log("it goes on")
        assert await telemetry.log_fatal_exception(Planted("again"))
        await service.aclose()
        return names(world, service)

    assert report(story).value == [
        "SESSION_START",
        "UNHANDLED_EXCEPTION",
        "it goes on",
        "UNHANDLED_EXCEPTION",
        "SESSION_END",
    ]


def test_a_user_s_error_within_another_is_a_warning_with_its_status():
    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        try:
            raise RuntimeError("outer") from status_error(400, "no such thing")
        except RuntimeError as error:
            telemetry.log_exception(error)
        telemetry.log_exception(status_error(408, "later"))
        telemetry.log_exception(status_error(503, "down"))
        telemetry.log_exception(InvalidInput("a", "is b", "Give c"))
        await telemetry.flush()
        return [event.fields for event in reported(world, service)[1:]]

    user, timeout, server, invalid = report(story).value
    assert (user["event"], user["event_name"], user["severity"]) == ("GENERIC_EVENT", "user_error", "WARNING")
    data = user["event_data"]
    assert (data["error_type"], data["status_code"], data["body"]) == ("BadRequestError", 400, "no such thing")
    assert "HTTP 400" in data["message"]
    assert (timeout["event"], timeout["error_type"]) == ("UNHANDLED_EXCEPTION", "RequestTimeoutError")
    assert (server["event"], server["error_type"]) == ("UNHANDLED_EXCEPTION", "ServiceUnavailableError")
    assert "status_code" not in invalid["event_data"]


def test_what_can_not_be_sent_as_it_is_goes_as_text():
    class Odd:
        def __repr__(self) -> str:
            raise OSError

    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        inner: dict[str, Any] = {"nan": float("nan"), "odd": Odd(), "set": {1}, "bytes": b"123", "yes": True}
        inner["self"] = inner
        assert telemetry.log("strange", inner)
        assert telemetry.log("huge", {f"{number}": {f"{n}": "x" * 4000 for n in range(100)} for number in range(9)})
        assert await telemetry.flush()
        return [event.fields["event_data"] for event in reported(world, service)[1:]]

    strange, huge = report(story).value
    assert strange == {
        "nan": "nan",
        "odd": "<Odd, which can't be printed: OSError>",
        "set": [1],
        "bytes": "<3 bytes>",
        "yes": True,
        "self": "<itself>",
    }
    assert huge["left_out"].endswith(" bytes of data")


def test_an_event_that_can_not_be_made_is_no_crash(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        monkeypatch.setattr("tinker_actors.telemetry.events.traceback_of", lambda error: 1 / 0)
        assert not telemetry.log_exception(KeyError())
        monkeypatch.undo()
        assert telemetry.log_exception(KeyError())

    report(story)
    assert "could not be recorded" in caplog.text


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": 7}, "name"),
        ({"name": "half \ud800"}, "name"),
        ({"data": [1]}, "data"),
        ({"data": "text"}, "data"),
        ({"severity": "loud"}, "severity"),
        ({"severity": 3}, "severity"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused_by_name(given: dict[str, Any], field: str):
    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        before = telemetry.status().recorded
        with pytest.raises(InvalidInput, match=field):
            telemetry.log(**{"name": "one", **given})
        error: Any = "no exception"
        with pytest.raises(InvalidInput, match="error"):
            telemetry.log_exception(error)
        assert telemetry.status().recorded == before

    report(story)


@pytest.mark.parametrize("severity", [*Severity, "debug", " Critical "])
def test_severities_are_read_in_any_case(severity: str):
    async def story(world: World, service: ServiceClient):
        telemetry_of(service).log("one", severity=severity)
        await telemetry_of(service).flush()
        return reported(world, service)[1].fields["severity"]

    assert report(story).value == severity.strip().upper()


def test_no_credential_is_reported():
    async def story(world: World, service: ServiceClient):
        telemetry = telemetry_of(service)
        key = "tml-test"
        await service.get_server_capabilities()
        telemetry.log(f"name {key}", {key: [key]})
        try:
            raise ValueError(f"refused: {key}") from KeyError(f"cause {key}")
        except ValueError as error:
            telemetry.log_exception(error)
        telemetry.log_exception(status_error(400, f"the body says {key}"))
        await telemetry.flush()
        return [event.fields for event in reported(world, service)]

    fields = report(story).value
    assert len(fields) == 4
    assert "[hidden]" in str(fields)
    assert "tml-test" not in str(fields)


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


def test_where_telemetry_is_off_nothing_is_sent_and_there_is_no_actor():
    async def story(world: World, service: ServiceClient):
        client = await start_client(service)
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        assert [one.get_telemetry() for one in (service, client, sampler)] == [None, None, None]
        assert world.runtime.get_telemetry().status == "off"
        assert world.runtime.get_telemetry().sessions == ()
        await trio.sleep(60)
        tree = str(world.runtime.tree())
        await service.aclose()
        assert "telemetry" not in tree
        return world.runtime.counters().get("telemetry_requests", 0)

    assert report(story, telemetry_enabled=False).value == 0
    assert report(story, environ={"TINKER_TELEMETRY": "0"}).value == 0


def test_all_clients_of_a_session_share_its_telemetry_and_none_of_them_ends_it():
    async def story(world: World, service: ServiceClient):
        client = await start_client(service)
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        telemetry = telemetry_of(service)
        assert client.get_telemetry() is sampler.get_telemetry() is telemetry
        await sampler.aclose()
        await client.aclose()
        assert telemetry.log("still here")
        assert await telemetry.flush()
        assert telemetry.status().alive
        assert telemetry.session_id == service.session_id
        whole = world.runtime.get_telemetry()
        assert (whole.status, whole.sdk_version) == ("active", "0.38.0")
        assert whole.timestamp.tzinfo is not None
        assert [one.session_id for one in whole.sessions] == [service.session_id]
        return names(world, service)

    assert report(story).value == ["SESSION_START", "still here"]


def test_it_belongs_to_its_own_program():
    async def story(world: World, service: ServiceClient):
        return telemetry_of(service)

    telemetry = report(story).value
    with pytest.raises(WrongPlace, match="outside of trio"):
        telemetry.log("one")
    with pytest.raises(WrongPlace):
        telemetry.log_exception(KeyError())
    with pytest.raises(WrongPlace):
        telemetry.flush_soon()
