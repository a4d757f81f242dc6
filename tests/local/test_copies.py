from __future__ import annotations

from pathlib import Path
from typing import Any

import trio

from supervision.testing import run_seeded
from tests.local.harness import TINY, Answer, Caller, Stage, create_body, open_stage, play
from tinker_actors.local.settings import ServerSettings


async def copy(caller: Caller, source: str, key: str | None = None, **more: Any) -> Answer:
    headers = {} if key is None else {"x-idempotency-key": key}
    return await caller.send("POST", "/copy_weights", {"source_path": source, **more}, headers=headers)


def test_a_copy_in_a_project_is_the_same_weights_in_a_run_of_its_own() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        await caller.train(model_id, 1)
        path = (await caller.save(model_id, 5, "a", user_metadata={"k": "v"}))["path"]
        digest = await caller.digest(model_id)
        copied = (await copy(caller, path, "one", destination_project_id="archive", ttl_seconds=7200)).ok[
            "tinker_path"
        ]
        run_id, kind, name = copied.removeprefix("tinker://").split("/")
        assert (kind, name) == ("weights", "a")
        (run,) = (await caller.get("/training_runs?project_id=archive")).ok["training_runs"]
        assert (run["training_run_id"], run["base_model"], run["lora_rank"]) == (run_id, TINY, 2)
        (entry,) = (await caller.get(f"/training_runs/{run_id}/checkpoints")).ok["checkpoints"]
        assert (entry["tinker_path"], entry["user_metadata"]) == (copied, {"k": "v"})
        assert entry["expires_at"] > entry["time"]

        # it goes on where the original was, and outlives it
        assert (await caller.send("DELETE", f"/training_runs/{model_id}/checkpoints/weights/a")).status == 204
        body = {"session_id": session_id, "model_seq_id": 1, "path": copied, "optimizer": True}
        other = (await caller.result((await caller.post("/load_weights", body)).ok["request_id"]))["model_id"]
        assert await caller.digest(other) == digest
        assert await caller.train(other, 1) == await caller.train(model_id, 6)

        for answer in (await caller.optim_step(run_id, 1), await caller.post("/get_info", {"model_id": run_id})):
            assert (answer.status, answer.detail.split(":")[0]) == (400, "model_id")
            assert f"only holds a copy of {path}" in answer.detail

    play(scenario)


def test_a_copy_that_is_asked_for_again_is_made_once() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        path = (await caller.save_sampler(model_id, 1, path="a"))["path"]
        other_path = (await caller.save_sampler(model_id, 2, path="b"))["path"]
        answers: list[Answer] = []

        async def ask() -> None:
            answers.append(await copy(caller, path, "key", destination_project_id="p"))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        assert len({answer.ok["tinker_path"] for answer in answers}) == 1
        assert len((await caller.get("/training_runs?project_id=p")).ok["training_runs"]) == 1
        for source, project in ((other_path, "p"), (path, "q")):
            answer = await copy(caller, source, "key", destination_project_id=project)
            assert (answer.status, answer.detail.split(":")[0]) == (400, "copy_weights")
        first, second = [(await copy(caller, path, destination_project_id="p")).ok for _ in range(2)]
        assert first != second
        place = answers[0].ok["tinker_path"].removeprefix("tinker://").replace("/", "/checkpoints/", 1)
        assert (await caller.send("DELETE", f"/training_runs/{place}")).status == 204
        assert (await copy(caller, path, "key", destination_project_id="p")).status == 410

    play(scenario)


def test_a_copy_in_a_session_has_its_number_there() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id, target = await caller.session(), await caller.session()
        model_id = await caller.start_model(session_id)
        path = (await caller.save(model_id, 1, "a"))["path"]
        place = {"session_id": target, "model_seq_id": 0}
        answer = await copy(caller, path, **place)
        assert answer.ok["tinker_path"] == f"tinker://{target}:train:0/weights/a"
        assert (await copy(caller, path, **place)).ok == answer.ok
        assert (await caller.get(f"/sessions/{target}")).ok["training_run_ids"] == [f"{target}:train:0"]
        taken = await caller.post("/create_model", create_body(target, 0))
        assert (taken.status, taken.detail.split(":")[0]) == (400, "model_seq_id")
        await caller.start_model(target, 1)
        taken = await copy(caller, path, session_id=target, model_seq_id=1)
        assert taken.status == 400
        # a number that is being given to a model is not free either
        await caller.post("/create_model", create_body(target, 2))
        assert (await copy(caller, path, session_id=target, model_seq_id=2)).status == 400
        assert (await copy(caller, path, session_id="none", model_seq_id=3)).status == 404
        # what can't be copied takes no number
        assert (await copy(caller, f"{path}x", session_id=target, model_seq_id=3)).status == 404
        await caller.start_model(target, 3)

    play(scenario)


def test_whose_weights_may_be_copied() -> None:
    async def scenario(stage: Stage) -> None:
        mine, other = stage.caller, Caller(stage.network.transport(), key="tml-other")
        model_id = await mine.model()
        path = (await mine.save(model_id, 1, "a"))["path"]
        assert (await copy(other, path, destination_project_id="p")).status == 404
        for token, status in (("tml-third", 404), ("nonsense", 404), ("tml-test", 200)):
            headers = {"x-tinker-weights-access-token": token}
            body = {"source_path": path, "destination_project_id": "p"}
            answer = await other.send("POST", "/copy_weights", body, headers=headers)
            assert answer.status == status
        copied = answer.ok["tinker_path"]
        assert (await other.post("/weights_info", {"tinker_path": copied})).status == 200
        assert (await mine.post("/weights_info", {"tinker_path": copied})).status == 404
        assert (await copy(other, path, destination_project_id="p", weights_access_token="tml-test")).status == 200
        for wrong in ({}, {"destination_project_id": "p", "session_id": "s", "model_seq_id": 0}, {"session_id": "s"}):
            assert (await copy(mine, path, **wrong)).status == 422
        assert (await copy(mine, "/etc/passwd", destination_project_id="p")).status == 422
        assert (await copy(mine, path, destination_project_id="p", ttl_seconds=0)).status == 400

    play(scenario)


def test_copies_outlive_the_process(tmp_path: Path) -> None:
    settings = ServerSettings(base_model=TINY, directory=tmp_path)

    async def run() -> None:
        async with open_stage(settings, seed=0) as stage:
            model_id = await stage.caller.model()
            path = (await stage.caller.save(model_id, 1, "a"))["path"]
            copied = (await copy(stage.caller, path, "key", destination_project_id="p")).ok["tinker_path"]
        async with open_stage(settings, seed=1) as stage:
            caller = stage.caller
            assert (await copy(caller, path, "key", destination_project_id="p")).ok["tinker_path"] == copied
            body = {"session_id": await caller.session(), "model_seq_id": 0, "path": copied, "optimizer": True}
            model_id = (await caller.result((await caller.post("/load_weights", body)).ok["request_id"]))["model_id"]
            await caller.train(model_id, 1)

    run_seeded(run, seed=0)
