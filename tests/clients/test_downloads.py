"""Checkpoints of the local server, downloaded by a service client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
import trio

from tests.clients.scenario import batch, train
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.downloads import DownloadProgress
from tinker_actors.errors import InvalidInput, NotFoundError, WrongPlace
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, SaveWeightsExternalRequest, SaveWeightsExternalResponse
from tinker_actors.wire.endpoints.weights import save_weights_external


def test_saved_weights_become_a_folder(tmp_path: Path):
    seen: list[DownloadProgress] = []
    waiting: list[str] = []

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        def progress(now: DownloadProgress) -> None:
            seen.append(now)
            waiting.extend(str(row) for row in world.runtime.pending())

        await client.forward_backward(batch(1))
        await client.optim_step(AdamParams(learning_rate=1e-2))
        state = (await (await client.save_state("mine"))).path
        sampler = (await (await client.save_weights_for_sampler("mine"))).path
        assert sampler is not None
        done = await service.download_checkpoint(state, tmp_path, progress=progress)
        assert done.destination == tmp_path / state.removeprefix("tinker://").replace("/", "_")
        assert {"adapter_config.json", "adapter_model.safetensors"} < set(done.files)
        saved = safetensors.numpy.load_file(done.destination / "adapter_model.safetensors")
        other = await service.download_checkpoint(sampler, tmp_path)
        for name, array in safetensors.numpy.load_file(other.destination / "adapter_model.safetensors").items():
            assert (saved[name] == array).all()
        with pytest.raises(InvalidInput, match="force=True"):
            await service.download_checkpoint(state, tmp_path)
        assert await service.download_checkpoint(state, tmp_path, force=True) == done
        with pytest.raises(NotFoundError):
            await service.download_checkpoint(state.replace("mine", "none"), tmp_path)
        # without a session, and both without waiting at the call
        rest = await world.runtime.create_rest_client()
        for owner in (rest, service):
            assert await owner.download_checkpoint_async(state, tmp_path, force=True) == done
            for name, bad in (("progress", 3), ("bounds", 10_000)):
                given: Any = {name: bad}
                with pytest.raises(InvalidInput, match=f"{name}: is of type int"):
                    await owner.download_checkpoint(state, tmp_path, force=True, **given)
            with pytest.raises(InvalidInput, match="tinker path"):
                owner.download_checkpoint_async("weights/mine", tmp_path)
        assert await rest.download_checkpoint(state, tmp_path, force=True) == done

    train(story)
    assert seen[-1].received == seen[-1].total
    assert any("download_checkpoint" in line and "of archive are there" in line for line in waiting)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_download_that_ended_early_is_continued_at_the_local_server(tmp_path: Path):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[int]:
        def stop(now: DownloadProgress) -> None:
            if now.received == now.total:
                raise KeyError("the program's own")

        state = (await (await client.save_state("mine"))).path
        with pytest.raises(KeyError):
            await service.download_checkpoint(state, tmp_path, progress=stop)
        seen: list[int] = []
        await service.download_checkpoint(state, tmp_path, progress=lambda now: seen.append(now.received))
        return seen

    first, *_, last = train(story).value
    assert (first, last) == (last - 1, last)


def test_external_weights_become_a_folder(tmp_path: Path):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        model = await service.create_lora_training_client("tinker-actors/tiny", 2)
        session = service._session
        request = SaveWeightsExternalRequest(model_id=model.model_id, path="out", seq_id=1)
        promise = await save_weights_external(session.api, request, key="key")
        with session.pending.track("external", "save_weights_external", "promised") as entry:
            saved = await session.poller().result(
                promise.request_id,
                SaveWeightsExternalResponse,
                entry,
                request_type="SaveWeightsExternal",
                point="test",
                roundtrip=0.0,
            )
        assert saved.path is not None
        done = await service.download_checkpoint(saved.path, tmp_path)
        assert sorted(done.files) == ["adapter_config.json", "adapter_model.safetensors"]
        assert json.loads((done.destination / "adapter_config.json").read_bytes())["r"] == 2
        assert (done.destination / "adapter_model.safetensors").stat().st_size == saved.size_bytes

    train(story)


def test_a_training_checkpoint_becomes_the_files_of_its_adapter_and_leaves_nothing_at_the_server(tmp_path: Path):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        await client.forward_backward(batch(1))
        await client.optim_step(AdamParams(learning_rate=1e-2))
        state = (await (await client.save_state("mine"))).path
        archive = await service.download_checkpoint(state, tmp_path / "archive")
        rest = await service.create_rest_client()
        before = await rest.list_user_checkpoints()
        for owner in (service, rest):
            done = await owner.download_checkpoint_async(state, tmp_path, way="files", force=owner is rest)
            assert (done.checkpoint_path, done.destination.parent) == (state, tmp_path)
            assert sorted(done.files) == ["adapter_config.json", "adapter_model.safetensors"]
        for name in done.files:
            assert (done.destination / name).read_bytes() == (archive.destination / name).read_bytes()
        assert await rest.list_user_checkpoints() == before
        there = [model.model_id for model in world.service.models.values() if model.closed is None]
        assert there == [client.model_id]
        (session,) = world.service.sessions.alive()
        assert session.session_id == service.session_id
        for owner in (service, rest):
            with pytest.raises(NotFoundError):
                await owner.download_checkpoint(state.replace("mine", "none"), tmp_path, way="files")
            with pytest.raises(InvalidInput, match="archive only"):
                owner.download_checkpoint_async(state.replace("/weights/", "/sampler_weights/"), way="files")

    train(story)


async def test_a_service_client_of_another_run_of_trio_downloads_nothing(tmp_path: Path):
    kept: list[ServiceClient] = []

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        kept.append(service)

    await trio.to_thread.run_sync(lambda: train(story))
    with pytest.raises(WrongPlace):
        await kept[0].download_checkpoint("tinker://run/weights/x", tmp_path)
