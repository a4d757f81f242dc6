"""What ends by itself, when, and what is left of it."""

from __future__ import annotations

import gc
import logging
import weakref
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from supervision.testing import run_seeded
from tests.local.harness import TINY, Caller, Stage, create_body, open_stage, play, sample_body
from tinker_actors.local.settings import ServerSettings
from tinker_actors.types import ForwardBackwardOutput

FINISH = {"reason": {"type": "success"}, "detail": None}


async def listed(caller: Caller, model_id: str) -> list[str]:
    answer = await caller.get(f"/training_runs/{model_id}/checkpoints")
    return [entry["checkpoint_id"] for entry in answer.ok["checkpoints"]]


def files(folder: Path) -> list[str]:
    return sorted(path.name.partition(".")[0] for path in folder.rglob("*.safetensors"))


async def refused(caller: Caller, model_id: str, path: str) -> None:
    """It can be read in no way."""
    session_id = model_id.partition(":train:")[0]
    load: dict[str, Any] = {"session_id": session_id, "model_seq_id": 9, "path": path, "optimizer": True}
    sampler = {"session_id": session_id, "sampling_session_seq_id": 9, "model_path": path}
    assert (await caller.post("/load_weights", load)).status == 404
    assert (await caller.post("/create_sampling_session", sampler)).status == 404
    assert (await caller.post("/weights_info", {"tinker_path": path})).status == 404


def test_a_checkpoint_ends_with_its_time_and_its_file_does(tmp_path: Path) -> None:
    settings = ServerSettings(base_model=TINY, directory=tmp_path, session_expiry=1e6)

    async def run() -> None:
        async with open_stage(settings) as stage:
            caller = stage.caller
            model_id = await caller.model()
            for seq_id, (name, seconds) in enumerate((("kept", None), ("long", 7200), ("short", 3600)), start=1):
                await caller.save(model_id, seq_id, name, ttl_seconds=seconds)
            path = f"tinker://{model_id}/weights/short"
            reader = await caller.sampler(model_id.partition(":train:")[0], 1, model_path=path)
            unread = await caller.sampler(model_id.partition(":train:")[0], 2, model_path=path)
            before = await caller.sample(reader)
            await trio.sleep(3590.0)
            assert files(tmp_path) == ["kept", "long", "short"]
            await trio.sleep(11.0)  # nobody asks for anything
            assert files(tmp_path) == ["kept", "long"]
            assert await listed(caller, model_id) == ["weights/kept", "weights/long"]
            await refused(caller, model_id, path)
            # who has read it goes on
            assert (await caller.sample(reader, 1))["sequences"] == before["sequences"]
            assert "there is no checkpoint" in (await caller.sample(unread))["error"]
            place = f"/training_runs/{model_id}/checkpoints/weights"
            await caller.send("PUT", f"{place}/long/ttl", {"ttl_seconds": None})
            await caller.send("PUT", f"{place}/kept/ttl", {"ttl_seconds": 3600})
            await trio.sleep(4000.0)
            assert files(tmp_path) == ["long"]
            # its name is free again
            await caller.save(model_id, 4, "short", ttl_seconds=3600)
            assert files(tmp_path) == ["long", "short"]

    run_seeded(run, seed=0)


def test_what_has_expired_while_no_server_ran_is_deleted_at_the_start(tmp_path: Path) -> None:
    settings = ServerSettings(base_model=TINY, directory=tmp_path)
    day = datetime(2026, 11, 29, tzinfo=UTC)

    async def before() -> str:
        async with open_stage(settings, now=lambda: day) as stage:
            model_id = await stage.caller.model()
            await stage.caller.save(model_id, 1, "kept")
            await stage.caller.save(model_id, 2, "short", ttl_seconds=3600)
            return model_id

    async def after(model_id: str) -> None:
        async with open_stage(settings, seed=1, now=lambda: day + timedelta(hours=2)) as stage:
            assert await listed(stage.caller, model_id) == ["weights/kept"]
            await trio.sleep(1.0)
            assert files(tmp_path) == ["kept"]

    model_id = run_seeded(before, seed=0)
    assert files(tmp_path) == ["kept", "short"]
    run_seeded(lambda: after(model_id), seed=1)


def test_a_clock_that_is_set_on_is_noticed() -> None:
    # the time of day, not how long the server has run
    offset = timedelta()

    def now() -> datetime:
        return datetime(2026, 11, 29, tzinfo=UTC) + offset

    async def run() -> None:
        nonlocal offset
        async with open_stage(ServerSettings(base_model=TINY, session_expiry=1e6), now=now) as stage:
            model_id = await stage.caller.model()
            await stage.caller.save(model_id, 1, "short", ttl_seconds=36_000)
            offset = timedelta(hours=11)
            await trio.sleep(601.0)
            assert stage.service.catalog.next_expiry() is None

    run_seeded(run, seed=0)


def test_a_disk_that_fails_delays_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = ServerSettings(base_model=TINY, directory=tmp_path, session_expiry=1e6)

    async def run() -> None:
        async with open_stage(settings) as stage:
            storage: Any = stage.service.catalog._storage
            model_id = await stage.caller.model()
            await stage.caller.save(model_id, 1, "short", ttl_seconds=3600)
            remove, storage.remove = storage.remove, _full
            await trio.sleep(3700.0)
            assert await listed(stage.caller, model_id) == []
            assert files(tmp_path) == ["short"]
            storage.remove = remove
            await trio.sleep(70.0)
            assert files(tmp_path) == []

    with caplog.at_level(logging.ERROR, "tinker_actors.local"):
        run_seeded(run, seed=0)
    assert "whose time is over can't be deleted" in caplog.text


def _full(_path: str) -> None:
    raise OSError("no space left")


def test_results_are_freed_in_time_though_nobody_asks_for_anything() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        request_id = (await caller.forward_backward(model_id, 1)).ok["request_id"]
        await caller.result(request_id)
        result = stage.service.futures.find(stage.owner, request_id).result
        assert isinstance(result, ForwardBackwardOutput)
        array = weakref.ref(result.loss_fn_outputs[0]["logprobs"].to_numpy())
        del result
        await trio.sleep(99.0)
        gc.collect()
        assert array() is not None
        await trio.sleep(2.0)
        gc.collect()
        assert array() is None

    play(scenario, result_retention=100.0)


def test_a_poll_is_a_sign_of_life() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        waits = (await caller.forward_backward(model_id, 2)).ok["request_id"]  # for seq_id 1
        for _ in range(30):
            assert (await caller.poll(waits)).ok["type"] == "try_again"
        assert trio.current_time() > 300.0
        await caller.result((await caller.forward_backward(model_id, 1)).ok["request_id"])
        await caller.result(waits)

    play(scenario, session_expiry=100.0, poll_hold=20.0)


@pytest.mark.parametrize("how", ["finished", "silent"])
def test_what_a_session_that_is_over_answers(how: str) -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        promise = (await caller.forward_backward(model_id, 1)).ok["request_id"]
        await caller.result(promise)
        path = (await caller.save(model_id, 2, "kept"))["path"]
        sampler = await caller.sampler(session_id)
        if how == "finished":
            await caller.post(f"/sessions/{session_id}/finish", FINISH)
        else:
            await trio.sleep(101.0)
        numbered = {"model_id": model_id, "seq_id": 3}
        by_session = {"session_id": session_id, "sampling_session_seq_id": 1, "base_model": TINY}
        by_load = {"session_id": session_id, "model_seq_id": 1, "path": path, "optimizer": True}
        answers = {
            "heartbeat": await caller.post("/session_heartbeat", {"session_id": session_id}),
            "create": await caller.post("/create_model", create_body(session_id, 1)),
            "load": await caller.post("/load_weights", by_load),
            "train": await caller.forward_backward(model_id, 3),
            "step": await caller.optim_step(model_id, 3),
            "save": await caller.post("/save_weights", numbered | {"path": "late"}),
            "ephemeral": await caller.post("/save_weights_for_sampler", numbered | {"sampling_session_seq_id": 1}),
            "sampler": await caller.post("/create_sampling_session", by_session),
            "sample": await caller.post("/asample", sample_body(sampler, 5)),
        }
        assert {name: answer.status for name, answer in answers.items()} == dict.fromkeys(answers, 410)
        assert all(session_id in answer.detail for answer in answers.values())
        # its results, its checkpoints and its end are still told; a repeated end is none
        assert (await caller.poll(promise)).status == 200
        assert await listed(caller, model_id) == ["weights/kept"]
        assert (await caller.post(f"/sessions/{session_id}/finish", FINISH)).status == 200
        other = await caller.session()
        load = by_load | {"session_id": other, "model_seq_id": 0}
        loaded = (await caller.post("/load_weights", load)).ok
        assert len(await caller.digest(loaded["model_id"])) == 64

    play(scenario, session_expiry=100.0)
