from __future__ import annotations

from typing import Any

import trio

from tests.local.harness import Caller, Stage, play, sample_body

DAY = "starting_on=2000-01-01T00:00:00Z&ending_before=2000-01-02T00:00:00Z"


async def usage(caller: Caller, query: str = DAY) -> list[tuple[Any, ...]]:
    """(hour, kind, count, session) of each event but storage."""
    events = (await caller.get(f"/billing/usage/events?{query}")).ok["data"]
    return [
        (
            int(event["bucket_start"][11:13]),
            event["event_info"]["type"],
            event["event_info"].get("token_count", event["event_info"].get("count")),
            event["session_id"],
        )
        for event in events
        if event["event_info"]["type"] != "storage"
    ]


async def audit(caller: Caller, query: str = "") -> list[str]:
    return [entry["event"] for entry in (await caller.get(f"/audit?{query}")).ok["entries"]]


def test_usage_is_what_was_used() -> None:
    async def scenario(stage: Stage) -> None:
        caller, other = stage.caller, Caller(stage.network.transport(), key="tml-other")
        body = {"tags": [], "user_metadata": {"k": "v"}, "sdk_version": "0", "project_id": "p"}
        session_id = (await caller.post("/create_session", body)).ok["session_id"]
        model_id = await caller.start_model(session_id)
        assert await usage(caller) == []
        await caller.train(model_id, 1, 2)  # twice a datum of 5 tokens
        sampler = await caller.sampler(session_id)
        answer = await caller.post("/asample", sample_body(sampler, 0, num_samples=2))
        sequences = (await caller.result(answer.ok["request_id"]))["sequences"]
        sampled = sum(len(sequence["tokens"]) for sequence in sequences)
        first = [
            (0, "sampling_prefill", 3, session_id),
            (0, "sampling_sample", sampled, session_id),
            (0, "training", 10, session_id),
        ]
        assert sampled == 8
        assert await usage(caller) == first
        await trio.sleep(590.0)
        await caller.post("/session_heartbeat", {"session_id": session_id})
        for _ in range(6):
            await trio.sleep(590.0)
            await caller.post("/session_heartbeat", {"session_id": session_id})
        await caller.save(model_id, 5, "a")
        await caller.save_sampler(model_id, 6, path="b")
        await caller.save_sampler(model_id, 7, sampling_session_seq_id=1)
        assert "exists" in (await caller.save(model_id, 8, "a"))["error"]
        await caller.forward_backward(model_id, 9, forward_only=True)
        await caller.result((await caller.optim_step(model_id, 10)).ok["request_id"])
        second = [(1, "checkpoint", 2, session_id), (1, "training", 5, session_id)]
        assert await usage(caller) == first + second
        hour = "starting_on=2000-01-01T01:00:00Z&ending_before=2000-01-01T02:00:00Z"
        assert await usage(caller, hour) == second
        assert await usage(caller, hour.replace("00:00Z", "00:00%2B01:00")) == first
        assert await usage(other) == []
        answer = (await caller.get(f"/billing/usage/events?{DAY}")).ok
        assert answer["sessions"] == {session_id: {"user_metadata": {"k": "v"}}}
        event = answer["data"][0]
        assert (event["project_id"], event["base_model"], event["estimated_cost_usd"]) == (
            "p",
            "tinker-actors/tiny",
            0.0,
        )
        assert event["bucket_end"] == "2000-01-01T01:00:00Z"

    play(scenario)


def test_storage_by_the_hour_and_now() -> None:
    async def scenario(stage: Stage) -> None:
        caller, other = stage.caller, Caller(stage.network.transport(), key="tml-other")
        body = {"tags": [], "user_metadata": {}, "sdk_version": "0", "project_id": "p"}
        session_id = (await caller.post("/create_session", body)).ok["session_id"]
        first = await caller.start_model(session_id)
        second = await caller.model()
        await caller.save(first, 1, "a")
        await caller.save(second, 1, "b")
        await caller.save(second, 2, "c")
        sizes = [entry["size_bytes"] for entry in (await caller.get("/checkpoints")).ok["checkpoints"]]
        size = sizes[0]
        assert sizes == [size] * 3
        current = (await caller.get("/billing/usage/checkpoints/current")).ok
        assert current["effective_rate_usd_per_gigabyte_month"] == 0.0
        counts = {
            entry.get("project_id"): (entry["checkpoint_count"], entry["size_bytes"]) for entry in current["data"]
        }
        assert counts == {"p": (1, size), None: (2, 2 * size)}
        assert current["data"][0]["size_gigabytes"] == size / 1e9
        (only,) = (await caller.get("/billing/usage/checkpoints/current?project_id=p")).ok["data"]
        assert only == current["data"][0]
        assert (await other.get("/billing/usage/checkpoints/current")).ok["data"] == []
        await trio.sleep(3.0 * 3600.0)
        events = (await caller.get(f"/billing/usage/events?{DAY}")).ok["data"]
        hours = {
            int(event["bucket_start"][11:13]): event["event_info"]["gigabyte_hours"] * 1e9 / size
            for event in events
            if event["event_info"]["type"] == "storage" and event.get("project_id") == "p"
        }
        assert list(hours) == [0, 1, 2, 3]
        # free it is, but older SDKs refuse the word
        assert all("free" not in event["event_info"] and event["estimated_cost_usd"] == 0.0 for event in events)
        assert 0.99 < hours[0] < hours[1] == hours[2] == 1.0 > 0.01 > hours[3] > 0.0
        await caller.send("DELETE", f"/training_runs/{first}/checkpoints/weights/a")
        assert len((await caller.get("/billing/usage/checkpoints/current")).ok["data"]) == 1

    play(scenario)


def test_times_that_usage_can_not_be_asked_for() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        for start, end, status in (
            ("2000-01-01T00:30:00Z", "2000-01-01T02:00:00Z", 400),
            ("2000-01-01T00:00:00Z", "2000-01-01T02:00:01Z", 400),
            ("2000-01-01T02:00:00Z", "2000-01-01T02:00:00Z", 400),
            ("2000-01-02T00:00:00Z", "2000-01-01T00:00:00Z", 400),
            ("2000-01-01T00:00:00Z", "2000-01-15T01:00:00Z", 400),
            ("2000-01-01T00:00:00Z", "2000-01-15T00:00:00Z", 200),
            ("yesterday", "2000-01-15T00:00:00Z", 422),
            ("", "2000-01-15T00:00:00Z", 422),
        ):
            answer = await caller.get(f"/billing/usage/events?starting_on={start}&ending_before={end}")
            assert (answer.status, start, end) == (status, start, end)

    play(scenario)


def test_the_audit_log_says_what_was_done() -> None:
    async def scenario(stage: Stage) -> None:
        caller, other = stage.caller, Caller(stage.network.transport(), key="tml-other")
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        path = (await caller.save(model_id, 1, "a"))["path"]
        await caller.save_sampler(model_id, 2, path="a")
        place = f"/training_runs/{model_id}/checkpoints/weights/a"
        await caller.send("POST", f"{place}/publish")
        await caller.send("POST", f"{place}/publish")
        await caller.send("DELETE", f"{place}/publish")
        await caller.send("PUT", f"{place}/ttl", {"ttl_seconds": 5000})
        copied = await caller.post("/copy_weights", {"source_path": path, "destination_project_id": "p"})
        await caller.send("PUT", f"/sessions/{session_id}/project", {"project_id": "q"})
        await caller.send("DELETE", place)
        await caller.send("DELETE", place)
        checkpoints = [
            "checkpoint_saved",
            "checkpoint_saved",
            "checkpoint_published",
            "checkpoint_unpublished",
            "checkpoint_ttl_set",
            "checkpoint_copied",
        ]
        assert await audit(caller) == [*checkpoints, "session_project_set", "checkpoint_deleted"]
        assert await audit(caller, "event_type=checkpoints") == [*checkpoints, "checkpoint_deleted"]
        assert await audit(caller, "event_type=teams") == []
        assert await audit(caller, "event_type=all&day=2000-01-01") == await audit(caller)
        assert await audit(caller, "day=2000-01-02") == []
        assert (await caller.get("/audit?event_type=everything")).status == 422
        assert (await caller.get("/audit?day=today")).status == 422
        assert await audit(other) == []
        (project,) = (await caller.get("/audit?event_type=projects")).ok["entries"]
        assert project["event_details"] == {"session_id": session_id, "project_id": "q"}
        entries = (await caller.get("/audit")).ok["entries"]
        assert (entries[0]["model_id"], entries[0]["tinker_path"]) == (model_id, path)
        assert entries[4]["event_details"] == {"ttl_seconds": 5000}
        assert (entries[5]["tinker_path"], entries[5]["event_details"]) == (
            copied.ok["tinker_path"],
            {"source_path": path},
        )
        await trio.sleep(24 * 3600.0)
        assert await audit(caller) == []
        await other.send("DELETE", "/auth/apikey/me")
        assert await audit(caller, "event_type=organizations") == []

    play(scenario)


def test_a_revoked_key_is_in_its_owners_audit_log() -> None:
    async def scenario(stage: Stage) -> None:
        first, second = (Caller(stage.network.transport(), key=key) for key in ("tml-1", "tml-2"))
        key_id = (await first.get("/auth/apikey/me")).ok["key_id"]
        await first.send("DELETE", "/auth/apikey/me")
        (entry,) = (await second.get("/audit?event_type=organizations")).ok["entries"]
        assert (entry["event"], entry["event_details"]) == ("api_key_revoked", {"key_id": key_id})

    play(scenario, owners={"me": ("tml-1", "tml-2")})
