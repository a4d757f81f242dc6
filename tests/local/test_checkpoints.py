from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.local.harness import TINY, Stage, play, sample_body


async def load(stage: Stage, model_id: str, seq_id: int, path: str, *, optimizer: bool = True) -> Any:
    body = {"model_id": model_id, "seq_id": seq_id, "path": path, "optimizer": optimizer}
    return await stage.caller.result((await stage.caller.post("/load_weights", body)).ok["request_id"])


def test_a_saved_state_loads_to_the_bit_and_trains_on_alike():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        await caller.train(model_id, 1, 3)
        saved = await caller.save(model_id, 7, "here")
        assert saved["path"] == f"tinker://{model_id}/weights/here"
        digest = await caller.digest(model_id)

        body = {"session_id": session_id, "model_seq_id": 1, "path": saved["path"], "optimizer": True}
        promise = (await caller.post("/load_weights", body)).ok
        assert (await caller.post("/load_weights", body)).ok == promise
        created = await caller.result(promise["request_id"])
        assert created["model_id"] == f"{session_id}:train:1"
        other = created["model_id"]
        assert await caller.digest(other) == digest
        assert await caller.train(other, 1) == await caller.train(model_id, 8)
        assert await caller.digest(other) == await caller.digest(model_id) != digest

        # back in mid-life, then without the optimizer's state
        await load(stage, model_id, 12, saved["path"])
        assert await caller.digest(model_id) == digest
        await load(stage, model_id, 13, saved["path"], optimizer=False)
        assert await caller.digest(model_id) != digest
        assert [kind for _, kind in await caller.applied(model_id)][-2:] == ["load_state", "load_state"]

    play(scenario)


def test_a_save_holds_what_all_lower_seq_ids_made():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        body = {"model_id": model_id, "seq_id": 3, "path": "early"}
        save = (await caller.post("/save_weights", body)).ok["request_id"]
        later = (await caller.optim_step(model_id, 4, 0.5)).ok["request_id"]
        await caller.optim_step(model_id, 2)
        await caller.forward_backward(model_id, 1)
        path = (await caller.result(save))["path"]
        await caller.result(later)
        twin = await caller.start_model(session_id, 1)
        await caller.train(twin, 1, 1)
        digest = await caller.digest(twin)
        await load(stage, twin, 3, path)
        assert await caller.digest(twin) == digest

    play(scenario)


def test_names_are_not_used_twice_unless_that_is_asked_for():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        first = await caller.save(model_id, 1, "a")
        refused = await caller.save(model_id, 2, "a")
        assert refused["category"] == "user"
        assert "exists. Use another name, or delete it first" in refused["error"]
        await caller.train(model_id, 3)
        digest = await caller.digest(model_id)
        assert (await caller.save(model_id, 7, "a", overwrite=True)) == first
        await load(stage, model_id, 8, first["path"])
        assert await caller.digest(model_id) == digest
        named = await caller.save_sampler(model_id, 9, path="a")
        assert named["path"] == f"tinker://{model_id}/sampler_weights/a"
        assert "exists" in (await caller.save_sampler(model_id, 10, path="a"))["error"]
        assert (await caller.save(model_id, 11, "b"))["path"].endswith("/b")

    play(scenario)


@pytest.mark.parametrize("name", ["", "a/b", "..", "ä", "x" * 129, "a b"])
def test_a_name_that_can_t_be_one_is_refused(name: str):
    async def scenario(stage: Stage) -> None:
        model_id = await stage.caller.model()
        for path in ("/save_weights", "/save_weights_for_sampler"):
            answer = await stage.caller.post(path, {"model_id": model_id, "seq_id": 1, "path": name})
            assert answer.status == 400
            assert answer.detail.startswith("path:")

    play(scenario)


def test_paths_of_the_wrong_kind():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        sampler_path = (await caller.save_sampler(model_id, 1, path="s"))["path"]
        for path in (sampler_path, "tinker://a/b", "/etc/passwd", "tinker://a/external_weights/b", ""):
            body: dict[str, Any] = {"path": path, "optimizer": True}
            for place in ({"model_id": model_id, "seq_id": 2}, {"session_id": session_id, "model_seq_id": 1}):
                answer = await caller.post("/load_weights", body | place)
                assert answer.status == 400
                assert answer.detail.startswith("path:")
        body = {"session_id": session_id, "sampling_session_seq_id": 0}
        for path in ("tinker://a/b", "tinker://a/external_weights/b"):
            answer = await caller.post("/create_sampling_session", body | {"model_path": path})
            assert answer.status == 400
            assert answer.detail.startswith("model_path:")
        path = f"tinker://{model_id}/sampler_weights/none"
        answer = await caller.post("/create_sampling_session", body | {"model_path": path})
        assert (answer.status, answer.detail) == (404, f"model_path: there is no checkpoint {path}")
        assert (await caller.post("/weights_info", {"tinker_path": path})).status == 404

    play(scenario)


def test_a_checkpoint_of_another_shape_is_refused_and_the_model_lives():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        narrow = await caller.start_model(session_id, 0, rank=2)
        wide = await caller.start_model(session_id, 1, rank=4)
        path = (await caller.save(narrow, 1, "narrow"))["path"]
        digest = await caller.digest(wide)
        failure = await load(stage, wide, 1, path)
        assert failure["category"] == "user"
        assert "rank" in failure["error"]
        assert await caller.digest(wide) == digest
        assert await caller.applied(wide) == []
        await caller.train(wide, 2)

    play(scenario)


def test_samplers_see_the_weights_of_their_moment():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        await caller.train(model_id, 1, 5)
        ephemeral = await caller.save_sampler(model_id, 11, sampling_session_seq_id=0)
        assert ephemeral["sampling_session_id"] == f"{session_id}:sample:0"
        named = (await caller.save_sampler(model_id, 12, path="now"))["path"]
        state = (await caller.save(model_id, 13, "now"))["path"]
        await caller.train(model_id, 14, 5)
        later = (await caller.save_sampler(model_id, 24, sampling_session_seq_id=1))["sampling_session_id"]
        samplers = [
            ephemeral["sampling_session_id"],
            await caller.sampler(session_id, 2, model_path=named),
            await caller.sampler(session_id, 3, model_path=state),
        ]
        first, *same = [await caller.sample(sampler) for sampler in samplers]
        assert all(result == first for result in same)
        assert await caller.sample(later) != first
        assert await caller.sample(await caller.sampler(session_id, 4)) != first
        info = (await caller.get(f"/samplers/{samplers[1]}")).ok
        assert info == {"sampler_id": samplers[1], "base_model": TINY, "model_path": named}

    play(scenario)


def test_many_samples_at_once_equal_the_same_samples_one_by_one():
    async def scenario(stage: Stage) -> tuple[list[Any], list[Any]]:
        caller = stage.caller
        session_id = await caller.session()
        first, second = await caller.sampler(session_id, 0), await caller.sampler(session_id, 1)
        alone = [await caller.sample(first, n, seed=n) for n in range(12)]
        together: list[Any] = [None] * 12

        async def ask(n: int) -> None:
            together[n] = await caller.sample(second, n, seed=n)

        async with trio.open_nursery() as nursery:
            for n in range(12):
                nursery.start_soon(ask, n)
        return alone, together

    for seed in range(3):
        alone, together = play(scenario, seed=seed)
        assert alone == together


def test_without_a_seed_the_server_draws_one_and_keeps_it():
    async def scenario(stage: Stage) -> list[Any]:
        caller = stage.caller
        sampler = await caller.sampler(await caller.session())
        return [await caller.sample(sampler, n, seed=None) for n in range(8)]

    samples = play(scenario, seed=1)
    assert len({str(sample) for sample in samples}) > 1
    assert play(scenario, seed=1) == samples
    assert play(scenario, seed=2) != samples


def test_too_many_waiting_samples_are_pushed_back():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        sampler = await caller.sampler(await caller.session())
        statuses: list[int] = []

        async def ask(n: int) -> None:
            answer = await caller.post("/asample", sample_body(sampler, n))
            statuses.append(answer.status)
            if answer.status == 429:
                assert answer.headers["retry-after"] == "1"

        async with trio.open_nursery() as nursery:
            for n in range(30):
                nursery.start_soon(ask, n)
        assert set(statuses) == {200, 429}
        await trio.sleep(60.0)
        await ask(30)
        assert statuses[-1] == 200

    play(scenario, max_queued_samples=5)


def test_a_checkpoint_whose_time_is_over_is_gone():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        model_id = await caller.model()
        path = (await caller.save(model_id, 1, "short", ttl_seconds=60))["path"]
        kept = (await caller.save(model_id, 2, "long", ttl_seconds=600))["path"]
        (first, second) = (await caller.get(f"/training_runs/{model_id}/checkpoints")).ok["checkpoints"]
        assert (first["checkpoint_id"], first["checkpoint_type"]) == ("weights/short", "training")
        assert (first["tinker_path"], second["tinker_path"]) == (path, kept)
        assert first["size_bytes"] > 100
        assert first["expires_at"] > first["time"]
        assert (await caller.post("/weights_info", {"tinker_path": path})).ok["lora_rank"] == 2
        await trio.sleep(61.0)
        assert (await caller.post("/weights_info", {"tinker_path": path})).status == 404
        assert "there is no checkpoint" in (await load(stage, model_id, 3, path))["error"]
        (left,) = (await caller.get(f"/training_runs/{model_id}/checkpoints")).ok["checkpoints"]
        assert left["tinker_path"] == kept
        await caller.save(model_id, 4, "short")
        assert (await caller.post("/weights_info", {"tinker_path": path})).status == 200

    play(scenario)


def test_inflight_samplers_move_to_the_weights_that_were_published_last() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)

        async def publish(seq_id: int, number: int, kind: str = "inflight") -> str:
            saved = await caller.save_sampler(model_id, seq_id, sampling_session_seq_id=number, kind=kind)
            return saved["sampling_session_id"]

        first = await publish(1, 0)
        fixed = await publish(2, 1, "snapshot")
        before = await caller.sample(first, 0)
        assert await caller.sample(fixed, 0) == before
        await caller.train(model_id, 3, 4)
        assert await caller.sample(first, 1) == before
        second = await publish(11, 2)
        after = await caller.sample(second, 0)
        assert await caller.sample(first, 2) == after != before
        assert await caller.sample(fixed, 1) == before
        await caller.train(model_id, 12, 4)
        third = await publish(20, 3)
        newest = await caller.sample(third, 0)
        assert await caller.sample(first, 3) == await caller.sample(second, 1) == newest != after
        assert await caller.sample(fixed, 2) == before
        body = {"model_id": model_id, "seq_id": 21}
        for more in ({"path": "a", "kind": "inflight"}, {"sampling_session_seq_id": 4, "kind": "live"}):
            answer = await caller.post("/save_weights_for_sampler", body | more)
            assert (answer.status, answer.detail.split(":")[0]) == (400, "kind")

    play(scenario)
