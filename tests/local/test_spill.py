"""Adapters, optimizers and samplers' weights that were in a file in between are what they were, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supervision.testing import run_seeded
from tests.local.harness import PROTOBUF, TINY, Caller, Stage, datum, open_stage, play, sample_body
from tinker_actors.codec.samples import decode_sample_response
from tinker_actors.errors import DecodeError
from tinker_actors.local.engine import ModelState, state_from_bytes, state_to_bytes
from tinker_actors.local.settings import ServerSettings


async def sampled(caller: Caller, sampler: str, seq_id: int) -> Any:
    """Tokens and the bits of their log-probabilities."""
    return (await caller.sample(sampler, seq_id, num_samples=2))["sequences"]


async def three_models(stage: Stage) -> dict[str, Any]:
    """Three models by turns, so that with room for fewer each leaves memory with gradients that are pending."""
    caller, files = stage.caller, []
    session_id = await caller.session()
    models = [await caller.start_model(session_id, number, seed=number) for number in range(3)]
    seen: list[Any] = []
    for step in range(3):
        for part in range(2):
            for number, model_id in enumerate(models):
                data = (datum(100 * step + 10 * part + number),)
                promise = (await caller.forward_backward(model_id, 3 * step + part + 1, data)).ok
                seen.append(dict((await caller.output(promise["request_id"])).metrics))
                files.append(len(spilled(stage)))
        for model_id in models:
            update = (await caller.optim_step(model_id, 3 * step + 3)).ok
            seen.append(await caller.result(update["request_id"]))
    samplers = [
        (await caller.save_sampler(model_id, 10, sampling_session_seq_id=number))["sampling_session_id"]
        for number, model_id in enumerate(models)
    ]
    for seq_id in range(2):
        seen += [await sampled(caller, sampler, seq_id) for sampler in samplers]
    for model_id in models:
        await caller.save(model_id, 11, "kept")
        seen.append(await caller.digest(model_id))
    kept = [
        await caller.sampler(session_id, 10 + n, model_path=f"tinker://{m}/weights/kept")
        for n, m in enumerate(models)
    ]
    for seq_id in range(2):
        seen += [await sampled(caller, sampler, seq_id) for sampler in kept]
    checkpoints = [record.sha256 for record in stage.service.catalog.checkpoints(stage.owner)]
    return {"seen": seen, "checkpoints": checkpoints, "files": max(files)}


def spilled(stage: Stage) -> list[Path]:
    """The files that there are now."""
    return list(stage.service.files.folder.iterdir()) if stage.service.files.folder is not None else []


@pytest.mark.parametrize("room", [1, 2])
def test_training_and_sampling_go_on_bit_for_bit(room: int) -> None:
    spilling = play(three_models, max_models_in_memory=room, max_snapshots_in_memory=room)
    roomy = play(three_models)
    assert spilling.pop("files") == 3 - room
    assert roomy.pop("files") == 0
    assert spilling == roomy


def test_the_model_used_longest_ago_makes_room() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        models = [await caller.start_model(session_id, number) for number in range(2)]
        await caller.digest(models[0])
        await caller.start_model(session_id, 2)
        shown = (await caller.get("/local/queue")).ok["models"]
        assert [model["in_memory"] for model in shown] == [True, False, True]
        # the others' promises are kept: what was asked before it left is not done again
        await caller.train(models[1], 1)
        shown = (await caller.get("/local/queue")).ok["models"]
        assert [model["in_memory"] for model in shown] == [False, True, True]

    play(scenario, max_models_in_memory=2)


def test_files_go_with_their_models_and_samplers_and_with_the_server(tmp_path: Path) -> None:
    settings = ServerSettings(base_model=TINY, directory=tmp_path, max_models_in_memory=1, max_snapshots_in_memory=1)
    folder = tmp_path / "spilled"
    folder.mkdir()
    (folder / "7").write_bytes(b"of a killed process")

    async def run() -> None:
        async with open_stage(settings) as stage:
            assert not folder.exists()
            caller = stage.caller
            session_id = await caller.session()
            models = [await caller.start_model(session_id, number) for number in range(2)]
            assert len(list(folder.iterdir())) == 1
            answer = await caller.post("/unload_model", {"model_id": models[0]})
            await caller.result(answer.ok["request_id"])
            assert len(list(folder.iterdir())) == 1  # the other's
            await caller.digest(models[1])
            assert list(folder.iterdir()) == []
            for number in range(3):
                await caller.save_sampler(models[1], number + 1, sampling_session_seq_id=number)
            assert len(list(folder.iterdir())) == 2
            await caller.post(f"/sessions/{session_id}/finish", {"reason": {"type": "success"}, "detail": None})
            assert list(folder.iterdir()) == []
            await everything_spilled(caller)
            assert list(folder.iterdir()) != []

    async def everything_spilled(caller: Caller) -> None:
        session_id = await caller.session()
        for number in range(3):
            await caller.start_model(session_id, number)

    run_seeded(run, seed=0)
    assert not folder.exists()


def test_samples_that_were_accepted_are_sampled_after_their_session_was_finished() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        await caller.train(model_id, 1)
        samplers = [
            (await caller.save_sampler(model_id, 5 + number, sampling_session_seq_id=number))["sampling_session_id"]
            for number in range(2)
        ]
        bodies = [sample_body(sampler, number, num_samples=256) for number in range(10) for sampler in samplers]
        promises = [(await caller.post("/asample", body)).ok for body in bodies]
        await caller.post(f"/sessions/{session_id}/finish", {"reason": {"type": "success"}, "detail": None})
        assert len(stage.service.samples) > 1
        answers = [await caller.wait(promise["request_id"], accept=PROTOBUF) for promise in promises]
        samples = [decode_sample_response(answer.content).sequences for answer in answers]
        assert {len(sequences) for sequences in samples} == {256}
        first = samples[0][0].tokens
        assert all(np.array_equal(sequences[0].tokens, first) for sequences in samples)
        assert spilled(stage) == []

    play(scenario, max_snapshots_in_memory=1)


def test_a_file_that_is_damaged_ends_its_model_alone() -> None:
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        models = [await caller.start_model(session_id, number) for number in range(2)]
        (file,) = spilled(stage)
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        await caller.train(models[1], 1)
        refused = await caller.result((await caller.forward_backward(models[0], 1)).ok["request_id"])
        assert refused["category"] == "server"
        assert "is not what was written" in refused["error"]
        again = await caller.result((await caller.optim_step(models[0], 2)).ok["request_id"])
        assert "can't be read" in again["error"]
        assert (await caller.get(f"/local/digest/{models[0]}")).status == 410
        answer = await caller.post("/unload_model", {"model_id": models[0]})
        assert (await caller.result(answer.ok["request_id"]))["model_id"] == models[0]
        assert file not in spilled(stage)
        await caller.train(models[1], 5)

    play(scenario, max_models_in_memory=1)


def test_without_room_for_files_models_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    async def scenario(stage: Stage) -> Any:
        monkeypatch.setattr(Path, "write_bytes", full)
        try:
            return await three_models(stage)
        finally:
            monkeypatch.undo()

    spilling = play(scenario, max_models_in_memory=1, max_snapshots_in_memory=1)
    assert spilling["seen"] == play(three_models)["seen"]


@pytest.mark.parametrize("pending", [False, True])
def test_every_bit_of_a_state_is_kept(pending: bool) -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, (4, 33), dtype=np.uint32)  # NaNs of all kinds among them
    bits[:, 0] = 0x7F800001
    flat, first, second, gradient = bits.view(np.float32)
    state = ModelState(flat, first, second, 2**40, gradient if pending else None)
    data = state_to_bytes(state)
    back = state_from_bytes(data)
    assert back.step == 2**40
    assert (back.gradient is None) == (not pending)
    pairs = [(back.flat, flat), (back.first, first), (back.second, second)]
    if back.gradient is not None:
        pairs.append((back.gradient, gradient))
    assert all(np.array_equal(one.view(np.uint32), other.view(np.uint32)) for one, other in pairs)
    back.flat[0] = 1.0  # it is trained on
    for damaged in (data[:-1], data + b"x", data[:3], b""):
        with pytest.raises(DecodeError, match="not the state of a model"):
            state_from_bytes(damaged)
