"""What clients report through POST /telemetry is kept by session, each event once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.local.harness import Stage, play


def event(event_id: str, **more: object) -> dict[str, Any]:
    return {"event_id": event_id, "event": "GENERIC_EVENT", "event_name": "a", **more}


def test_events_are_kept_by_session_in_order_and_each_once():
    async def scenario(stage: Stage) -> None:
        for batch in (["0", "1"], ["1", "2"]):
            body = {"session_id": "s", "events": [event(name) for name in batch], "platform": "Linux"}
            assert (await stage.caller.post("/telemetry", body)).ok == {"status": "accepted"}
        await stage.caller.post("/telemetry", {"session_id": "other", "events": [event("1", event="SESSION_START")]})
        kept = stage.service.reports.of("s")
        assert [(one.event_id, one.times, one.kind) for one in kept] == [
            ("0", 1, "GENERIC_EVENT"),
            ("1", 2, "GENERIC_EVENT"),
            ("2", 1, "GENERIC_EVENT"),
        ]
        assert kept[0].fields == event("0")
        assert [one.kind for one in stage.service.reports.of("other")] == ["SESSION_START"]
        assert stage.service.reports.of("nobody") == ()

    play(scenario)


def test_the_oldest_make_room():
    async def scenario(stage: Stage) -> None:
        for number in range(9):
            await stage.caller.post("/telemetry", {"session_id": "s", "events": [event(str(number), text="x" * 100)]})
        assert [one.event_id for one in stage.service.reports.of("s")] == ["6", "7", "8"]
        assert stage.service.reports.dropped == 6

    play(scenario, max_reported_bytes=600)


@pytest.mark.parametrize("bad", [{"event": "X"}, {"event_id": 7}, {"event_id": ""}])
def test_an_event_without_an_id_is_refused_by_its_place(bad: dict[str, Any]):
    async def scenario(stage: Stage) -> None:
        answer = await stage.caller.post("/telemetry", {"session_id": "s", "events": [event("0"), bad]})
        assert answer.status == 400
        assert "events[1].event_id" in answer.detail
        assert stage.service.reports.of("s") == ()

    play(scenario)
