from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from supervision.testing import run_seeded
from tests.local.harness import TINY, Answer, Caller, Stage, create_body, open_stage, play
from tinker_actors.local.settings import ServerSettings


def ids(answer: Answer) -> list[str]:
    return [entry["tinker_path"].rpartition("/")[2] for entry in answer.ok["checkpoints"]]


async def finish(caller: Caller, session_id: str, reason: str = "success", detail: str | None = None) -> None:
    await caller.post(f"/sessions/{session_id}/finish", {"reason": {"type": reason}, "detail": detail})


async def search(caller: Caller, **wanted: Any) -> list[str]:
    return [entry["session_id"] for entry in (await caller.post("/sessions/search", wanted)).ok["sessions"]]


def test_training_runs_with_their_last_checkpoints() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        body = create_body(session_id, 0, rank=4) | {"user_metadata": {"who": "me"}}
        first = (await caller.result((await caller.post("/create_model", body)).ok["request_id"]))["model_id"]
        run = (await caller.get(f"/training_runs/{first}?access_scope=owned")).ok
        assert "last_checkpoint" not in run
        created = run["last_request_time"]
        second = await caller.start_model(session_id, 1)
        await caller.save(first, 1, "one")
        await caller.save(first, 2, "two")
        await caller.save_sampler(first, 3, path="three")
        await caller.train(first, 4)
        run = (await caller.get(f"/training_runs/{first}")).ok
        assert (run["training_run_id"], run["base_model"], run["is_lora"], run["lora_rank"]) == (first, TINY, True, 4)
        assert (run["corrupted"], run["user_metadata"]) == (False, {"who": "me"})
        assert run["last_checkpoint"]["checkpoint_id"] == "weights/two"
        assert run["last_sampler_checkpoint"]["checkpoint_id"] == "sampler_weights/three"
        assert created < run["last_sampler_checkpoint"]["time"] < run["last_request_time"]
        listed = (await caller.get("/training_runs")).ok
        assert listed["training_runs"][1] == run
        assert listed["training_runs"][0]["training_run_id"] == second
        assert listed["cursor"] == {"offset": 0, "limit": 20, "total_count": 2}
        answer = await caller.get("/training_runs/none")
        assert (answer.status, answer.detail) == (404, "training run 'none': there is no such run")

    play(scenario)


def test_pages() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        models = [await caller.start_model(session_id, number) for number in range(5)]
        for number in range(5):
            await caller.save(models[number % 2], number // 2 + 1, f"c{number}")
        seen: list[str] = []
        for offset in (0, 2, 4):
            page = (await caller.get(f"/training_runs?limit=2&offset={offset}&access_scope=accessible")).ok
            assert page["cursor"] == {"offset": offset, "limit": 2, "total_count": 5}
            seen += [run["training_run_id"] for run in page["training_runs"]]
        assert seen == models[::-1]
        assert (await caller.get("/training_runs?offset=9")).ok["training_runs"] == []
        answer = await caller.get("/checkpoints?limit=3&offset=1")
        assert ids(answer) == ["c3", "c2", "c1"]
        assert answer.ok["cursor"] == {"offset": 1, "limit": 3, "total_count": 5}
        assert (await caller.get("/checkpoints?limit=&offset=")).ok["cursor"]["limit"] == 100
        assert ids(await caller.get(f"/training_runs/{models[0]}/checkpoints")) == ["c0", "c2", "c4"]
        assert ids(await caller.get(f"/models/{models[0]}/checkpoints")) == ["c0", "c2", "c4"]
        assert (await caller.get("/models/none/checkpoints")).status == 404
        for wrong in ("limit=0", "limit=1001", "limit=x", "offset=-1", "limit=1.5"):
            for path in ("/checkpoints", "/training_runs", "/sessions"):
                answer = await caller.get(f"{path}?{wrong}")
                assert answer.status == 422
                assert wrong.partition("=")[0] in answer.detail
        assert "access_scope" in (await caller.get("/training_runs?access_scope=all")).detail

    play(scenario)


def test_projects() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        body = {"tags": [], "user_metadata": {}, "sdk_version": "0", "project_id": "a"}
        session_id = (await caller.post("/create_session", body)).ok["session_id"]
        model_id = await caller.start_model(session_id)
        other = await caller.model()

        async def runs_of(project: str) -> list[str]:
            found = (await caller.get(f"/training_runs?project_id={project}")).ok["training_runs"]
            return [run["training_run_id"] for run in found]

        assert await runs_of("a") == [model_id]
        assert await search(caller, project_ids=["a"]) == [session_id]
        answer = await caller.send("PUT", f"/sessions/{session_id}/project", {"project_id": "b"})
        assert (answer.status, answer.content) == (204, b"")
        assert await runs_of("a") == []
        assert await runs_of("b") == [model_id]
        assert await search(caller, project_ids=["b", "c"]) == [session_id]
        assert await search(caller, project_ids=["default"]) == [other.partition(":")[0]]
        for wrong in ({}, {"project_id": ""}, {"project_id": None}):
            answer = await caller.send("PUT", f"/sessions/{session_id}/project", wrong)
            assert (answer.status, answer.detail) == (400, "project_id: is missing. Give the project's id")
        assert (await caller.send("PUT", "/sessions/none/project", {"project_id": "b"})).status == 404
        await caller.train(model_id, 1)

    play(scenario)


def test_sessions_and_what_is_in_them() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        body = {"tags": [], "user_metadata": {"k": "v"}, "sdk_version": "0.38.0", "display_name": "A Run"}
        first = (await caller.post("/create_session", body)).ok["session_id"]
        await trio.sleep(1.0)
        second = await caller.session()
        assert (await caller.get("/sessions?limit=20&offset=0&access_scope=owned")).ok == {
            "sessions": [second, first]
        }
        assert (await caller.get("/sessions?limit=1&offset=1")).ok == {"sessions": [first]}
        models = [await caller.start_model(first, number) for number in range(2)]
        samplers = [await caller.sampler(first, 0)]
        samplers.append((await caller.save_sampler(models[0], 1, sampling_session_seq_id=1))["sampling_session_id"])
        found = {"training_run_ids": models, "sampler_ids": samplers}
        named = {"user_metadata": {"k": "v"}, "display_name": "A Run"}
        assert (await caller.get(f"/sessions/{first}?access_scope=owned")).ok == found | named
        assert (await caller.get(f"/sessions/{second}")).ok["training_run_ids"] == []
        assert (await caller.get("/sessions/none")).status == 404
        await finish(caller, first)
        assert (await caller.get(f"/sessions/{first}")).ok == found | named

    play(scenario)


def test_sessions_are_searched_for() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        created: list[str] = []
        for number, name in enumerate(("Alpha Beta", "beta gamma", None)):
            body: dict[str, Any] = {"tags": [], "sdk_version": "0", "user_metadata": {"n": str(number), "all": "x"}}
            body |= {"display_name": name} if name is not None else {}
            created.append((await caller.post("/create_session", body)).ok["session_id"])
            await trio.sleep(1.0)
        first, second, third = created
        assert await search(caller) == [third, second, first]
        assert await search(caller, session_id=second) == [second]
        assert await search(caller, display_name="BETA") == [second, first]
        assert await search(caller, display_name="ta alp") == [first]
        assert await search(caller, display_name="gamma", session_id=third) == [third, second]
        assert await search(caller, user_metadata={"n": "1", "all": "x"}) == [second]
        assert await search(caller, user_metadata={"n": "1", "all": "y"}) == []
        assert await search(caller, owner={"type": "accessible"}) == [third, second, first]
        assert await search(caller, owner={"type": "user", "owner_urns": ["somebody"]}) == []
        model_id = await caller.start_model(second)
        size = (await caller.save(model_id, 1, "a")) and (await caller.get("/checkpoints")).ok["checkpoints"][0]
        (summary,) = (await caller.post("/sessions/search", {"session_id": second})).ok["sessions"]
        assert summary["checkpoints_count"] == 1
        assert summary["checkpoint_storage_bytes"] == size["size_bytes"] > 0
        assert (summary["display_name"], summary["project_id"]) == ("beta gamma", "default")
        assert summary["status"] == {"type": "active"}

        seen: list[str] = []
        cursor = None
        for _ in range(3):
            request: dict[str, Any] = {"limit": 1} | ({"cursor": cursor} if cursor is not None else {})
            page = (await caller.post("/sessions/search", request)).ok
            seen += [entry["session_id"] for entry in page["sessions"]]
            cursor = page.get("next_cursor")
        assert (seen, cursor) == ([third, second, first], None)

        for wrong in (
            {"limit": 0},
            {"limit": 201},
            {"display_name": ""},
            {"statuses": []},
            {"owner": {"type": "all"}},
        ):
            assert (await caller.post("/sessions/search", wrong)).status == 422

    play(scenario)


def test_sessions_are_searched_for_by_how_they_ended() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        silent = await caller.session()
        await trio.sleep(70.0)
        done, broken = await caller.session(), await caller.session()
        await finish(caller, done)
        await finish(caller, broken, "errored", "it was so")
        await finish(caller, broken, "success")
        living = await caller.session()
        await trio.sleep(50.0)
        assert await search(caller, statuses=[{"type": "active"}]) == [living]
        assert await search(caller, statuses=[{"type": "cancelled"}]) == [silent]
        assert await search(caller, statuses=[{"type": "failed"}]) == []
        assert set(await search(caller, statuses=[{"type": "client_finished"}])) == {done, broken}
        errored = {"type": "client_finished", "reasons": ["errored", "interrupted"]}
        assert await search(caller, statuses=[errored]) == [broken]
        assert await search(caller, statuses=[errored, {"type": "cancelled"}]) == [broken, silent]
        (summary,) = (await caller.post("/sessions/search", {"session_id": broken})).ok["sessions"]
        assert summary["status"] == {"type": "client_finished", "reason": {"type": "errored"}, "detail": "it was so"}
        (summary,) = (await caller.post("/sessions/search", {"session_id": silent})).ok["sessions"]
        assert summary["status"] == {"type": "cancelled", "detail": "was silent for 100 s"}
        answer = await caller.post(f"/sessions/{living}/finish", {"reason": {"type": "bored"}, "detail": None})
        assert (answer.status, answer.detail.split(".")[0]) == (400, "reason")
        assert await search(caller, statuses=[{"type": "active"}]) == [living]

    play(scenario, session_expiry=100.0)


def test_listings_outlive_the_process(tmp_path: Path) -> None:
    settings = ServerSettings(base_model=TINY, directory=tmp_path)

    async def run() -> None:
        async with open_stage(settings, seed=0) as stage:
            caller = stage.caller
            done, left = await caller.session(), await caller.session()
            model_id = await caller.start_model(left)
            await caller.save(model_id, 1, "a")
            await caller.train(model_id, 2)
            await finish(caller, done, "interrupted")
            before = (await caller.get(f"/training_runs/{model_id}")).ok
        async with open_stage(settings, seed=1) as stage:
            caller = stage.caller
            run = (await caller.get(f"/training_runs/{model_id}")).ok
            assert run["last_request_time"] == before["last_checkpoint"]["time"]
            assert run["last_checkpoint"] == before["last_checkpoint"]
            assert ids(await caller.get("/checkpoints")) == ["a"]
            assert await search(caller, statuses=[{"type": "client_finished", "reasons": ["interrupted"]}]) == [done]
            (summary,) = (await caller.post("/sessions/search", {"session_id": left})).ok["sessions"]
            assert summary["status"] == {"type": "cancelled", "detail": "the server restarted"}
            assert (await caller.send("PUT", f"/sessions/{left}/project", {"project_id": "p"})).status == 204
        async with open_stage(settings, seed=2) as stage:
            assert await search(stage.caller, project_ids=["p"]) == [left]

    run_seeded(run, seed=0)


@pytest.mark.parametrize("kind", ["weights", "sampler_weights"])
def test_a_checkpoint_is_deleted(kind: str) -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        save = caller.save if kind == "weights" else lambda m, n, name: caller.save_sampler(m, n, path=name)
        path = (await save(model_id, 1, "a"))["path"]
        await save(model_id, 2, "b")
        place = f"/training_runs/{model_id}/checkpoints"
        answer = await caller.send("DELETE", f"{place}/{kind}/a")
        assert (answer.status, answer.content) == (204, b"")
        assert ids(await caller.get(place)) == ["b"]
        assert (await caller.post("/weights_info", {"tinker_path": path})).status == 404
        answer = await caller.send("DELETE", f"{place}/{kind}/a")
        assert (answer.status, answer.detail) == (404, f"checkpoint_id: there is no checkpoint {path}")
        for wrong in ("a", f"{kind}/a/b", "checkpoints/a"):
            answer = await caller.send("DELETE", f"{place}/{wrong}")
            assert (answer.status, answer.detail.split(":")[0]) == (400, "checkpoint_id")
        assert (await caller.send("DELETE", f"/training_runs/none/checkpoints/{kind}/b")).status == 404
        # the name is free again
        assert (await save(model_id, 3, "a"))["path"] == path
        await caller.train(model_id, 4)

    play(scenario)


def test_a_checkpoint_is_published_and_taken_back() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        await caller.save(model_id, 1, "a")
        place = f"/training_runs/{model_id}/checkpoints/weights/a"

        async def public() -> bool:
            (entry,) = (await caller.get("/checkpoints")).ok["checkpoints"]
            return entry["public"]

        assert not await public()
        assert (await caller.send("DELETE", f"{place}/publish")).status == 409
        assert (await caller.send("POST", f"{place}/publish")).status == 204
        assert await public()
        answer = await caller.send("POST", f"{place}/publish")
        assert (answer.status, answer.detail) == (409, f"tinker://{model_id}/weights/a is public already")
        assert (await caller.send("DELETE", f"{place}/publish")).status == 204
        assert not await public()
        assert (await caller.send("POST", f"{place}b/publish")).status == 404
        assert (await caller.send("POST", f"/training_runs/{model_id}/checkpoints/a/publish")).status == 400

    play(scenario)


def test_a_checkpoint_is_kept_for_a_time() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        await caller.save(model_id, 1, "a", ttl_seconds=60)
        place = f"/training_runs/{model_id}/checkpoints/weights/a/ttl"
        assert (await caller.send("PUT", place, {"ttl_seconds": None})).status == 204
        await trio.sleep(100.0)
        (entry,) = (await caller.get("/checkpoints")).ok["checkpoints"]
        assert "expires_at" not in entry
        assert (await caller.send("PUT", place, {"ttl_seconds": 50})).status == 204
        (entry,) = (await caller.get("/checkpoints")).ok["checkpoints"]
        assert entry["expires_at"] > entry["time"]
        for wrong, status in (({"ttl_seconds": 0}, 400), ({"ttl_seconds": "1"}, 422), ({}, 422)):
            assert (await caller.send("PUT", place, wrong)).status == status
        await trio.sleep(49.0)
        assert ids(await caller.get("/checkpoints")) == ["a"]
        await trio.sleep(2.0)
        assert ids(await caller.get("/checkpoints")) == []
        assert (await caller.send("PUT", place, {"ttl_seconds": None})).status == 404

    play(scenario)


def test_another_owner_sees_and_changes_nothing() -> None:
    async def scenario(stage: Stage) -> None:
        mine, other = stage.caller, Caller(stage.network.transport(), key="tml-other")
        session_id = await mine.session()
        model_id = await mine.start_model(session_id)
        await mine.save(model_id, 1, "a")
        strange = await other.session()
        place = f"/training_runs/{model_id}/checkpoints/weights/a"
        for method, path, body in (
            ("GET", f"/training_runs/{model_id}", None),
            ("GET", f"/training_runs/{model_id}/checkpoints", None),
            ("GET", f"/models/{model_id}/checkpoints", None),
            ("GET", f"/sessions/{session_id}", None),
            ("PUT", f"/sessions/{session_id}/project", {"project_id": "theirs"}),
            ("DELETE", place, None),
            ("POST", f"{place}/publish", None),
            ("DELETE", f"{place}/publish", None),
            ("PUT", f"{place}/ttl", {"ttl_seconds": 1}),
        ):
            answer = await other.send(method, path, body)
            assert (answer.status, method, path) == (404, method, path)
            assert "there is no" in answer.detail
        assert (await other.get("/training_runs")).ok["training_runs"] == []
        assert (await other.get("/checkpoints")).ok["checkpoints"] == []
        assert (await other.get("/sessions")).ok["sessions"] == [strange]
        for owner in ({"type": "own"}, {"type": "accessible"}):
            assert await search(other, owner=owner) == [strange]
        (summary,) = (await mine.post("/sessions/search", {})).ok["sessions"]
        assert await search(other, owner={"type": "user", "owner_urns": [summary["owner"]]}) == []
        assert await search(mine, owner={"type": "user", "owner_urns": [summary["owner"]]}) == [session_id]
        run = (await mine.get(f"/training_runs/{model_id}")).ok
        assert run["model_owner"] == summary["owner"]
        (checkpoint,) = (await mine.get("/checkpoints")).ok["checkpoints"]
        assert not checkpoint["public"]
        assert "expires_at" not in checkpoint

    play(scenario)


def test_runs_that_others_have_published_a_checkpoint_of_are_accessible() -> None:
    async def scenario(stage: Stage) -> None:
        mine, other = stage.caller, Caller(stage.network.transport(), key="tml-other")
        model_id, hidden = await mine.model(), await mine.model()
        await mine.save(model_id, 1, "public")
        await mine.save(model_id, 2, "private")
        await mine.save(hidden, 1, "private")
        place = f"/training_runs/{model_id}/checkpoints/weights/public/publish"
        assert (await mine.send("POST", place)).status == 204
        assert (await other.get("/training_runs?access_scope=owned")).ok["training_runs"] == []
        (run,) = (await other.get("/training_runs?access_scope=accessible")).ok["training_runs"]
        assert (run["training_run_id"], run["last_checkpoint"]["checkpoint_id"]) == (model_id, "weights/public")
        assert (await other.get(f"/training_runs/{model_id}?access_scope=accessible")).ok == run
        assert (await other.get(f"/training_runs/{model_id}")).status == 404
        assert (await other.get(f"/training_runs/{hidden}?access_scope=accessible")).status == 404
        own = (await mine.get(f"/training_runs/{model_id}")).ok
        assert own["last_checkpoint"]["checkpoint_id"] == "weights/private"

    play(scenario)
