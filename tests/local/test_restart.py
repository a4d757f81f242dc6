from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from supervision.testing import run_seeded
from tests.local.harness import TINY, Caller, create_body, open_stage, sample_body
from tinker_actors.errors import InvalidInput
from tinker_actors.local.settings import ServerSettings


def settings(directory: Path) -> ServerSettings:
    return ServerSettings(base_model=TINY, directory=directory)


def in_turn(directory: Path, *scenarios: Any) -> list[Any]:
    """Each scenario against a server of its own on the same directory, one after another."""

    async def run() -> list[Any]:
        values: list[Any] = []
        for number, scenario in enumerate(scenarios):
            async with open_stage(settings(directory), seed=number) as stage:
                values.append(await scenario(stage.caller, *values))
        return values

    return run_seeded(run, seed=0)


async def train_and_save(caller: Caller) -> dict[str, Any]:
    session_id = await caller.session()
    model_id = await caller.start_model(session_id)
    await caller.train(model_id, 1)
    path = (await caller.save(model_id, 5, "kept"))["path"]
    sampler_path = (await caller.save_sampler(model_id, 6, path="kept"))["path"]
    ephemeral = (await caller.save_sampler(model_id, 7, sampling_session_seq_id=0))["sampling_session_id"]
    named = await caller.sampler(session_id, 1, model_path=sampler_path)
    pending = (await caller.forward_backward(model_id, 9)).ok["request_id"]
    return {
        "session_id": session_id,
        "model_id": model_id,
        "digest": await caller.digest(model_id),
        "path": path,
        "sampler_path": sampler_path,
        "ephemeral": ephemeral,
        "sample": await caller.sample(named, 0),
        "pending": pending,
    }


def test_checkpoints_and_runs_outlive_the_process(tmp_path: Path) -> None:
    async def look(caller: Caller, before: dict[str, Any]) -> None:
        listed = (await caller.get(f"/training_runs/{before['model_id']}/checkpoints")).ok["checkpoints"]
        assert [entry["tinker_path"] for entry in listed] == [before["path"], before["sampler_path"]]
        session_id = await caller.session()
        assert session_id != before["session_id"]
        body = {"session_id": session_id, "model_seq_id": 0, "path": before["path"], "optimizer": True}
        model_id = (await caller.result((await caller.post("/load_weights", body)).ok["request_id"]))["model_id"]
        assert await caller.digest(model_id) == before["digest"]
        sampler = await caller.sampler(session_id, 0, model_path=before["sampler_path"])
        assert await caller.sample(sampler, 0) == before["sample"]

    in_turn(tmp_path, train_and_save, look)


def test_what_ended_with_the_process_is_said_to_be_gone(tmp_path: Path) -> None:
    async def ask(caller: Caller, before: dict[str, Any]) -> None:
        model_id, session_id = before["model_id"], before["session_id"]
        for answer in (
            await caller.poll(before["pending"]),
            await caller.forward_backward(model_id, 8),
            await caller.optim_step(model_id, 8),
            await caller.post("/get_info", {"model_id": model_id}),
            await caller.post("/session_heartbeat", {"session_id": session_id}),
            await caller.post("/create_model", create_body(session_id, 1)),
            await caller.post("/asample", sample_body(before["ephemeral"])),
            await caller.get(f"/local/digest/{model_id}"),
        ):
            assert answer.status == 410
            assert "restarted" in answer.detail
        assert (await caller.poll("req-nothing")).status == 404
        assert (await caller.post("/session_heartbeat", {"session_id": "sess-nothing"})).status == 404

    in_turn(tmp_path, train_and_save, ask)


def test_the_log_of_applied_operations_is_on_disk_as_it_was_told(tmp_path: Path) -> None:
    (before,) = in_turn(tmp_path, train_and_save)
    lines = [json.loads(line) for line in (tmp_path / "applied.jsonl").read_text().splitlines()]
    assert [(line["seq_id"], line["kind"]) for line in lines] == [
        (1, "forward_backward"),
        (2, "optim_step"),
        (3, "forward_backward"),
        (4, "optim_step"),
        (5, "save_state"),
        (6, "save_weights_for_sampler"),
        (7, "save_weights_for_sampler"),
    ]
    assert {line["model_id"] for line in lines} == {before["model_id"]}
    in_turn(tmp_path, train_and_save)
    assert len((tmp_path / "applied.jsonl").read_text().splitlines()) == 14


def test_a_save_that_a_kill_cut_short_leaves_nothing_behind(tmp_path: Path) -> None:
    (before,) = in_turn(tmp_path, train_and_save)
    kept = sorted(path for path in (tmp_path / "checkpoints").rglob("*") if path.is_file())
    assert len(kept) == 2
    # a kill before the rename, and one between the rename and the row
    kept[0].with_suffix(".draft").write_bytes(b"half")
    kept[0].with_name("lost.0123.safetensors").write_bytes(kept[0].read_bytes())

    async def look(caller: Caller, _: object = None) -> int:
        return len((await caller.get(f"/training_runs/{before['model_id']}/checkpoints")).ok["checkpoints"])

    assert in_turn(tmp_path, look) == [2]
    assert sorted(path for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()) == kept


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_file_is_noticed_and_harms_nothing_else(tmp_path: Path, damage: str) -> None:
    (before,) = in_turn(tmp_path, train_and_save)
    for file in (tmp_path / "checkpoints").rglob("*.safetensors"):
        data = file.read_bytes()
        match damage:
            case "flip":
                file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
            case "cut":
                file.write_bytes(data[: len(data) // 2])
            case _:
                file.unlink()

    async def load(caller: Caller) -> None:
        session_id = await caller.session()
        body = {"session_id": session_id, "model_seq_id": 0, "path": before["path"], "optimizer": True}
        failure = await caller.result((await caller.post("/load_weights", body)).ok["request_id"])
        assert failure["category"] == "server"
        assert before["path"] in failure["error"]
        answer = await caller.forward_backward(f"{session_id}:train:0", 1)
        assert answer.status == 410
        assert "could not be created" in answer.detail
        sampler = await caller.sampler(session_id, 0, model_path=before["sampler_path"])
        assert (await caller.sample(sampler))["category"] == "server"
        await caller.train(await caller.start_model(session_id, 1), 1)

    in_turn(tmp_path, load)


def test_overwriting_leaves_one_file(tmp_path: Path) -> None:
    async def save(caller: Caller) -> None:
        model_id = await caller.model()
        for n in range(3):
            await caller.train(model_id, 3 * n + 1, 1)
            assert "path" in await caller.save(model_id, 3 * n + 3, "one", overwrite=True)

    in_turn(tmp_path, save)
    (file,) = (path for path in (tmp_path / "checkpoints").rglob("*") if path.is_file())
    assert file.name.startswith("one.")


def test_a_directory_holds_one_server(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_stage(settings(tmp_path)):
            with pytest.raises(InvalidInput, match="in use by another server"):
                async with open_stage(settings(tmp_path)):
                    pass
        async with open_stage(settings(tmp_path)) as stage:
            await stage.caller.model()

    run_seeded(run, seed=0)


def test_an_unknown_base_model_is_told_at_the_start() -> None:
    async def run() -> None:
        with pytest.raises(InvalidInput, match="no/such"):
            async with open_stage(ServerSettings(base_model="no/such")):
                pass
        await trio.lowlevel.checkpoint()

    run_seeded(run, seed=0)


def test_a_full_disk_fails_the_save_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinker_actors.local import storage

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async def save(caller: Caller) -> str:
        model_id = await caller.model()
        first = await caller.save(model_id, 1, "first")
        with monkeypatch.context() as patched:
            patched.setattr(storage, "_write_synced", full)
            failure = await caller.save(model_id, 2, "second")
        assert failure["category"] == "server"
        assert "No space left" in failure["error"]
        await caller.train(model_id, 3)
        assert "path" in await caller.save(model_id, 7, "second")
        assert (await caller.post("/weights_info", {"tinker_path": first["path"]})).status == 200
        monkeypatch.setattr(storage, "_write_synced", full)
        assert (await caller.save(model_id, 8, "third"))["category"] == "server"
        return model_id

    async def look(caller: Caller, model_id: str) -> list[str]:
        listed = (await caller.get(f"/training_runs/{model_id}/checkpoints")).ok["checkpoints"]
        return [entry["checkpoint_id"] for entry in listed]

    assert in_turn(tmp_path, save, look)[1] == ["weights/first", "weights/second"]


def test_a_full_log_is_told_and_stops_no_training(tmp_path: Path) -> None:
    (tmp_path / "applied.jsonl").symlink_to("/dev/full")

    async def train(caller: Caller) -> None:
        model_id = await caller.model()
        await caller.train(model_id, 1)
        assert len(await caller.applied(model_id)) == 4
        assert "No space left" in (await caller.get("/local/queue")).ok["log_failure"]

    in_turn(tmp_path, train)


def test_a_full_database_fails_what_needs_it_and_nothing_else(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_stage(settings(tmp_path)) as stage:
            caller = stage.caller
            session_id = await caller.session()
            model_id = await caller.start_model(session_id)
            storage: Any = stage.service.catalog._storage
            database = storage._database
            pages = database.execute("PRAGMA page_count").fetchone()[0]
            database.execute(f"PRAGMA max_page_count={pages}")
            big = {"note": "x" * 20_000}
            failure = await caller.save(model_id, 1, "a", user_metadata=big)
            assert failure["category"] == "server"
            assert "full" in failure["error"]
            promise = (await caller.post("/create_model", create_body(session_id, 1) | {"user_metadata": big})).ok
            failure = await caller.result(promise["request_id"])
            assert failure["category"] == "server"
            assert "full" in failure["error"]
            body = {"tags": [], "user_metadata": big, "sdk_version": "0"}
            answer = await caller.post("/create_session", body)
            assert answer.status == 503
            assert "full" in answer.detail
            assert not list((tmp_path / "checkpoints").rglob("*.safetensors"))
            await caller.train(model_id, 2)
            database.execute(f"PRAGMA max_page_count={pages + 1000}")
            assert "path" in await caller.save(model_id, 6, "a", user_metadata=big)
            await caller.start_model(session_id, 2)
            assert set(stage.service.engine.models()) == {model_id, f"{session_id}:train:2"}

    run_seeded(run, seed=0)
