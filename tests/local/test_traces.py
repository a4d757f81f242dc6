from __future__ import annotations

from pathlib import Path
from typing import Any

from supervision.testing import run_seeded
from tests.local.harness import TINY, Answer, Caller, Stage, open_stage, play
from tinker_actors.codec.protobuf import as_bytes, as_double, as_int, as_text, fields
from tinker_actors.local.settings import ServerSettings
from tinker_actors.local.traces import Span, Traces


async def fetch(stage: Stage, url: str) -> Answer:
    return await Caller(stage.network.transport(), key=None).get(url.partition("/api/v1")[2])


def read(content: bytes) -> tuple[dict[int, str], list[tuple[Any, ...]]]:
    """Names of tracks, and (time, track, "begin" or "end", name, notes) of each event."""
    names: dict[int, str] = {}
    events: list[tuple[Any, ...]] = []
    for number, packet in fields(content):
        assert number == 1
        parts = dict(fields(as_bytes(packet)))
        assert as_int(parts[10]) == 1
        if 60 in parts:
            track = dict(fields(as_bytes(parts[60])))
            process = dict(fields(as_bytes(track[3]))) if 3 in track else None
            names[as_int(track[1])] = as_text(process[6] if process is not None else track[2])
            assert process is not None or as_int(track[5]) == 1
            continue
        event: list[tuple[int, Any]] = list(fields(as_bytes(parts[11])))
        single = dict(event)
        notes: dict[str, Any] = {}
        for annotation in (dict(fields(as_bytes(value))) for key, value in event if key == 4):
            value: Any = as_int(annotation[4]) if 4 in annotation else None
            value = as_double(annotation[5]) if 5 in annotation else value
            value = as_text(annotation[6]) if 6 in annotation else value
            notes[as_text(annotation[10])] = value
        kind = {1: "begin", 2: "end"}[as_int(single[9])]
        name = as_text(single[23]) if 23 in single else ""
        events.append((as_int(parts[8]), as_int(single[11]), kind, name, notes))
    return names, events


def test_a_trace_is_what_the_sessions_requests_did() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        early = (await caller.optim_step(model_id, 2)).ok["request_id"]
        forward = (await caller.forward_backward(model_id, 1)).ok["request_id"]
        await caller.result(early)
        sampler = await caller.sampler(session_id)
        await caller.sample(sampler, 0)
        await caller.sample(sampler, 1)
        await caller.save(model_id, 3, "a")
        assert "exists" in (await caller.save(model_id, 4, "a"))["error"]
        await caller.model()  # of another session
        exported = (await caller.get(f"/sessions/{session_id}/trace_export")).ok
        assert exported["status"] == "ready"
        answer = await fetch(stage, exported["url"])
        assert f'filename="{session_id}.pftrace"' in answer.headers["content-disposition"]
        names, events = read(answer.content)
        assert names == {1: session_id, 2: model_id, 3: sampler}
        begun = [(names[track], name) for _, track, kind, name, _ in events if kind == "begin"]
        assert begun == [
            (model_id, "create_model (seq_id 0)"),
            (model_id, "forward_backward (seq_id 1)"),
            (model_id, "optim_step (seq_id 2)"),
            (sampler, "sample 0"),
            (sampler, "sample 1"),
            (model_id, "save_state (seq_id 3)"),
            (model_id, "save_state (seq_id 4)"),
        ]
        assert [time for time, *_ in events] == sorted(time for time, *_ in events)
        open_: dict[int, int] = {}
        for _, track, kind, _, _ in events:
            open_[track] = open_.get(track, 0) + (1 if kind == "begin" else -1)
            assert 0 <= open_[track] <= 1
        assert set(open_.values()) == {0}
        notes = {notes["request_id"]: notes for *_, notes in events if notes}
        assert notes[forward]["tokens"] == 5
        assert notes[early]["tokens"] == 0
        assert notes[early]["waited"] > notes[forward]["waited"] >= 0.0
        assert [note["failed"] for note in notes.values()] == [0, 0, 0, 0, 0, 0, 1]

    play(scenario)


def test_whose_trace() -> None:
    async def scenario(stage: Stage) -> None:
        caller, other = stage.caller, Caller(stage.network.transport(), key="tml-other")
        session_id = await caller.session()
        place = f"/sessions/{session_id}/trace_export"
        assert (await other.get(place)).status == 404
        assert (await caller.get("/sessions/none/trace_export")).status == 404
        url = (await caller.get(place)).ok["url"]
        names, events = read((await fetch(stage, url)).content)
        assert (names, events) == ({1: session_id}, [])
        theirs = await other.session()
        assert (await fetch(stage, url.replace(session_id, theirs))).status == 403
        assert (await fetch(stage, url[:-1])).status == 403

    play(scenario)


def test_of_an_earlier_process_there_is_no_trace(tmp_path: Path) -> None:
    settings = ServerSettings(base_model=TINY, directory=tmp_path)

    async def run() -> None:
        async with open_stage(settings, seed=0) as stage:
            session_id = await stage.caller.session()
        async with open_stage(settings, seed=1) as stage:
            answer = (await stage.caller.get(f"/sessions/{session_id}/trace_export")).ok
            assert answer == {"status": "failed", "error": "what an earlier process did is not recorded"}

    run_seeded(run, seed=0)


def test_the_sessions_that_began_first_lose_their_spans_first() -> None:
    traces = Traces(3)
    for number, session_id in enumerate("aabab"):
        traces.add(session_id, Span("line", str(number), "", 0.0, 0.0, 0.0, 0, False))
    assert [span.name for span in traces.of_session("a")] == ["3"]
    assert [span.name for span in traces.of_session("b")] == ["2", "4"]
    for _ in range(3):
        traces.add("c", Span("line", "c", "", 0.0, 0.0, 0.0, 0, False))
    assert traces.of_session("a") == traces.of_session("b") == ()
