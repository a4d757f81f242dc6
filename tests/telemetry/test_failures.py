"""What fails in a session is reported by itself: actors, operations, requests that are repeated."""

from __future__ import annotations

import pytest
import trio

from tests.telemetry.reporting import SESSION, crash, names, report, reported, telemetry_of
from tinker_actors.clients import ServiceClient
from tinker_actors.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    BadRequestError,
    ModelLost,
    OutageError,
    RequestFailedError,
    status_error,
)
from tinker_actors.sessions import SessionState
from tinker_actors.telemetry.failures import Repeats, failure_name, failure_severity, told_of
from tinker_actors.testing.faults import DropBefore, Status
from tinker_actors.testing.operations import BASE_MODEL, PROMPT, start_client
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, SamplingParams

PATH = "/telemetry"
LONG = 10_000


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


def test_an_operation_that_fails_for_good_is_reported_and_whose_fault_it_is():
    async def story(world: World, service: ServiceClient):
        client = await start_client(service)
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        refused = await client.optim_step(AdamParams())
        with pytest.raises(BadRequestError):
            await refused
        with pytest.raises(APIStatusError):
            await sampler.sample(PROMPT, 1, SamplingParams(max_tokens=1))
        lost = await client.optim_step(AdamParams())
        with pytest.raises(ModelLost):
            await lost
        await telemetry_of(service).flush()
        return [dict(event.fields) for event in reported(world, service)[1:]]

    first, second, third = report(
        story,
        Status(path="/optim_step", status=400),
        Status(path="/asample", status=403),
        Status(path="/optim_step", nth=2, status=410),
        recovery=False,
    ).value
    assert [first["event_name"], first["severity"]] == ["APIFuture.result_async.api_status_error", "WARNING"]
    assert first["event_data"]["operation"] == "session-0/training-0#1"
    assert first["event_data"]["kind"] == "optim_step"
    assert first["event_data"]["status_code"] == 400
    assert [second["event_name"], second["severity"]] == ["APIFuture.result_async.api_status_error", "WARNING"]
    assert [second["event_data"]["kind"], second["event_data"]["status_code"]] == ["sample", 403]
    assert third["event_name"] == "APIFuture.result_async.error"
    assert third["event_data"]["error_type"] == "ModelLost"


@pytest.mark.parametrize(
    ("error", "name", "severity"),
    [
        (RequestFailedError("x", category="user", request_id="r"), "application_error", "WARNING"),
        (RequestFailedError("x", category="server", request_id="r"), "application_error", "ERROR"),
        (status_error(503, "x"), "api_status_error", "ERROR"),
        (APITimeoutError("x"), "timeout", "ERROR"),
        (OutageError("x"), "timeout", "ERROR"),
        (APIConnectionError("x"), "connection_error", "ERROR"),
        (APIResponseError("x"), "validation_error", "ERROR"),
        (KeyError("x"), "error", "ERROR"),
    ],
    ids=repr,
)
def test_failures_have_the_names_that_servers_know(error: Exception, name: str, severity: str):
    assert failure_name(error) == f"APIFuture.result_async.{name}"
    assert failure_severity(error) == severity
    assert told_of(error)["error_type"] == type(error).__name__


def test_repeated_requests_of_a_session_are_told_by_kind_and_counted():
    async def story(world: World, service: ServiceClient):
        other = await world.runtime.create_service_client()
        client = await start_client(service)
        await (await client.optim_step(AdamParams()))
        await trio.sleep(10)
        assert names(world, other) == ["SESSION_START"]
        return [dict(event.fields) for event in reported(world, service)[1:]]

    lost, busy = report(
        story, DropBefore(path="/optim_step", times=2), Status(path="/optim_step", nth=3, times=3, status=503)
    ).value
    assert [lost["event_name"], lost["severity"]] == ["http.request.exception", "ERROR"]
    assert lost["event_data"] == {"request": "POST /api/v1/optim_step", "error": "APIConnectionError", "times": 2}
    assert [busy["event_name"], busy["severity"]] == ["http.request.status", "INFO"]
    assert busy["event_data"] == {"request": "POST /api/v1/optim_step", "error": "HTTP 503", "times": 3}


def test_kinds_of_repeats_are_bounded():
    repeats = Repeats()
    for number in range(500):
        repeats.add(status_error(503, "x", request=f"GET /{number % 100}"))
    events = list(repeats.take())
    assert len(events) == 51
    assert sum(data["times"] for _, data, _ in events) == 500
    assert events[-1][1] == {"times": 250, "others": True}
    assert list(repeats.take()) == []


def test_a_session_that_the_server_has_ended_is_reported_and_the_one_in_its_place_is_another():
    async def story(world: World, service: ServiceClient):
        old = service.session_id
        telemetry_of(service).log("one")
        await trio.sleep(30)
        telemetry_of(service).log("two")
        await service.aclose()
        assert service.session_id != old
        return world.service.reports.of(old), reported(world, service)

    before, after = report(story, Status(path="/session_heartbeat", status=410)).value
    lost = before[2].fields
    assert [lost["event_name"], lost["severity"]] == ["session.lost", "ERROR"]
    assert "injected" in lost["event_data"]["detail"]
    kinds = [[event.fields.get("event_name", event.kind) for event in events] for events in (before, after)]
    assert kinds == [["SESSION_START", "one", "session.lost", "SESSION_END"], ["SESSION_START", "two", "SESSION_END"]]
    assert [[event.fields["event_session_index"] for event in events] for events in (before, after)] == [
        [0, 1, 2, 3],
        [0, 1, 2],
    ]
    assert len({event.event_id for event in (*before, *after)}) == 7
