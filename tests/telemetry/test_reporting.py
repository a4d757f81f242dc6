"""What the server is told of a session, from its start to its end, and by its program."""

from __future__ import annotations

import datetime
import platform
import uuid
from typing import Any

import msgspec
import pytest
import trio

from tests.clients.odd_server import ask
from tests.telemetry.reporting import Planted, names, report, reported, telemetry_of
from tinker_actors.clients import ServiceClient
from tinker_actors.errors import (
    InvalidInput,
    WrongPlace,
    status_error,
)
from tinker_actors.runtime import Runtime
from tinker_actors.testing.faults import Delay, Status
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


def test_a_batch_names_its_session_its_process_and_what_sent_it():
    async def story(runtime: Runtime) -> None:
        for _ in range(2):
            service = await runtime.create_service_client()
            telemetry_of(service).log("one")
            await telemetry_of(service).flush()

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    first, second = [msgspec.json.decode(body) for name, body in asked if name == "telemetry"][:2]
    assert set(first) == {"events", "platform", "sdk_version", "session_id", "process_uuid"}
    assert (first["session_id"], first["sdk_version"]) == ("session", "0.38.0")
    assert first["platform"] == platform.system()
    assert first["process_uuid"] == second["process_uuid"]
    assert uuid.UUID(first["process_uuid"]).version == 4
    assert [event["event"] for event in first["events"]] == ["SESSION_START", "GENERIC_EVENT"]
    assert all(uuid.UUID(event["event_id"]).version == 4 for event in first["events"])


def test_the_end_says_how_long_the_session_was_and_comes_once():
    async def story(world: World, service: ServiceClient):
        await trio.sleep(75)
        telemetry = telemetry_of(service)
        telemetry.end()
        assert not telemetry.log("late")
        await service.aclose()
        await service.aclose()
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
        telemetry.log("two")
        began = trio.current_time()
        assert await telemetry.flush()
        assert names(world, service) == ["SESSION_START", "one", "two"]
        assert world.runtime.counters()["telemetry_requests"] == 1
        assert trio.current_time() - began >= 3
        status = telemetry.status()
        assert (status.recorded, status.sent, status.waiting, status.lost) == (3, 3, 0, 0)
        began = trio.current_time()
        assert await telemetry.flush()  # nothing to wait for
        assert trio.current_time() == began
        telemetry.log("three")
        telemetry.flush_soon()
        assert names(world, service)[-1] == "two"  # nobody has waited
        await trio.sleep(1)
        return names(world, service)

    assert report(story, Delay(path=PATH, seconds=3, reply=True)).value == ["SESSION_START", "one", "two", "three"]


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
