"""RestClient."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path
from typing import Any

from tests.interop.operation import Call, Tools, operation, refused
from tinker_actors.types import SessionSearchRequest


def _parts(path: str) -> tuple[str, str]:
    run, _, checkpoint = path.removeprefix("tinker://").partition("/")
    return run, checkpoint


async def _listed(rest: Any, path: str) -> Any:
    found = (await rest.list_checkpoints(_parts(path)[0])).checkpoints
    return next((checkpoint for checkpoint in found if checkpoint.tinker_path == path), None)


@operation("RestClient.get_server_capabilities")
async def get_server_capabilities(tools: Tools, call: Call) -> None:
    offered = await call(await tools.rest())
    assert tools.model in [model.model_name for model in offered.supported_models]


@operation("RestClient.get_training_run")
async def get_training_run(tools: Tools, call: Call) -> None:
    client = await tools.training()
    found = await call(await tools.rest(), client.model_id)
    assert (found.training_run_id, found.base_model, found.lora_rank) == (client.model_id, tools.model, 4)


@operation("RestClient.get_training_run_by_tinker_path")
async def get_training_run_by_tinker_path(tools: Tools, call: Call) -> None:
    client = await tools.training()
    found = await call(await tools.rest(), await tools.saved(client))
    assert found.training_run_id == client.model_id


@operation("RestClient.get_weights_info_by_tinker_path")
async def get_weights_info_by_tinker_path(tools: Tools, call: Call) -> None:
    found = await call(await tools.rest(), await tools.saved(await tools.training()))
    assert (found.base_model, found.is_lora, found.lora_rank) == (tools.model, True, 4)


@operation("RestClient.list_training_runs")
async def list_training_runs(tools: Tools, call: Call) -> None:
    client = await tools.training()
    page = await call(await tools.rest(), limit=5, offset=0)
    assert client.model_id in [run.training_run_id for run in page.training_runs]
    assert len(page.training_runs) <= 5


@operation("RestClient.list_checkpoints")
async def list_checkpoints(tools: Tools, call: Call) -> None:
    client = await tools.training()
    path = await tools.saved(client)
    found = (await call(await tools.rest(), client.model_id)).checkpoints
    assert [(checkpoint.tinker_path, checkpoint.checkpoint_type) for checkpoint in found] == [(path, "training")]


@operation("RestClient.list_user_checkpoints")
async def list_user_checkpoints(tools: Tools, call: Call) -> None:
    path = await tools.saved(await tools.training())
    found = (await call(await tools.rest(), limit=10)).checkpoints
    assert path in [checkpoint.tinker_path for checkpoint in found]


@operation("RestClient.delete_checkpoint")
async def delete_checkpoint(tools: Tools, call: Call) -> None:
    rest, path = await tools.rest(), await tools.saved(await tools.training())
    await call(rest, *_parts(path))
    assert await _listed(rest, path) is None


@operation("RestClient.delete_checkpoint_by_tinker_path", "RestClient.delete_checkpoint_from_tinker_path")
async def delete_checkpoint_by_tinker_path(tools: Tools, call: Call) -> None:
    rest, path = await tools.rest(), await tools.saved(await tools.training())
    await call(rest, path)
    assert await _listed(rest, path) is None
    with refused(404):
        await call(rest, path)


@operation("RestClient.publish_checkpoint", "RestClient.publish_checkpoint_from_tinker_path")
async def publish_checkpoint(tools: Tools, call: Call) -> None:
    rest, path = await tools.rest(), await tools.saved(await tools.training())
    await call(rest, path)
    assert (await _listed(rest, path)).public


@operation("RestClient.unpublish_checkpoint", "RestClient.unpublish_checkpoint_from_tinker_path")
async def unpublish_checkpoint(tools: Tools, call: Call) -> None:
    rest, path = await tools.rest(), await tools.saved(await tools.training())
    await rest.publish_checkpoint(path)
    await call(rest, path)
    assert not (await _listed(rest, path)).public


@operation("RestClient.set_checkpoint_ttl_from_tinker_path")
async def set_checkpoint_ttl_from_tinker_path(tools: Tools, call: Call) -> None:
    rest, path = await tools.rest(), await tools.saved(await tools.training())
    await call(rest, path, 7200)
    assert (await _listed(rest, path)).expires_at is not None
    await call(rest, path, None)
    assert (await _listed(rest, path)).expires_at is None


@operation("RestClient.get_checkpoint_archive_url")
async def get_checkpoint_archive_url(tools: Tools, call: Call) -> None:
    path = await tools.saved(await tools.training())
    found = await call(await tools.rest(), *_parts(path))
    assert "://" in found.url


@operation("RestClient.get_checkpoint_archive_url_by_tinker_path")
async def get_checkpoint_archive_url_by_tinker_path(tools: Tools, call: Call) -> None:
    found = await call(await tools.rest(), await tools.saved(await tools.training()))
    assert "://" in found.url


@operation("RestClient.copy_weights")
async def copy_weights(tools: Tools, call: Call) -> None:
    path = await tools.saved(await tools.training())
    copied = await call(await tools.rest(), path, "interop")
    assert copied != path
    assert copied.startswith("tinker://")


@operation("RestClient.get_session")
async def get_session(tools: Tools, call: Call) -> None:
    service = await tools.service()
    client = await tools.training(service)
    found = await call(await tools.rest(), service.session_id)
    assert client.model_id in found.training_run_ids


@operation("RestClient.list_sessions")
async def list_sessions(tools: Tools, call: Call) -> None:
    service = await tools.service()
    assert service.session_id in (await call(await tools.rest(), limit=50)).sessions


@operation("RestClient.assign_session_project")
async def assign_session_project(tools: Tools, call: Call) -> None:
    service = await tools.service()
    client = await tools.training(service)
    rest = await tools.rest()
    await call(rest, service.session_id, "interop")
    found = (await rest.list_training_runs(project_id="interop", limit=100)).training_runs
    assert client.model_id in [run.training_run_id for run in found]


@operation("RestClient.search_sessions")
async def search_sessions(tools: Tools, call: Call) -> None:
    mark = tools.name()
    service = await tools.service(user_metadata={"mark": mark})
    found = await call(await tools.rest(), SessionSearchRequest(user_metadata={"mark": mark}))
    assert [session.session_id for session in found.sessions] == [service.session_id]


@operation("RestClient.export_session_trace")
async def export_session_trace(tools: Tools, call: Call) -> None:
    service = await tools.service()
    await tools.trained(service)
    assert "://" in await call(await tools.rest(), service.session_id)


@operation("RestClient.get_sampler")
async def get_sampler(tools: Tools, call: Call) -> None:
    sampler = await (await tools.service()).create_sampling_client(base_model=tools.model)
    found = await call(await tools.rest(), sampler.sampling_session_id)
    assert (found.sampler_id, found.base_model) == (sampler.sampling_session_id, tools.model)


@operation("RestClient.whoami")
async def whoami(tools: Tools, call: Call) -> None:
    assert (await call(await tools.rest())).name


@operation("RestClient.get_audit_log")
async def get_audit_log(tools: Tools, call: Call) -> None:
    path = await tools.saved(await tools.training())
    found = await call(await tools.rest(), "checkpoints")
    assert path in [entry.tinker_path for entry in found.entries]


@operation("RestClient.get_billing_usage")
async def get_billing_usage(tools: Tools, call: Call) -> None:
    service = await tools.service()
    await tools.trained(service)
    now = datetime.datetime.now(datetime.UTC).replace(minute=0, second=0, microsecond=0)
    hour = datetime.timedelta(hours=1)
    found = await call(await tools.rest(), now - hour, now + 2 * hour)
    assert all(now - hour <= event.bucket_start < now + 2 * hour for event in found.data)


@operation("RestClient.get_current_checkpoint_storage_usage")
async def get_current_checkpoint_storage_usage(tools: Tools, call: Call) -> None:
    await tools.saved(await tools.training())
    assert sum(row.checkpoint_count for row in (await call(await tools.rest())).data) > 0


@operation("RestClient.aclose")
async def close_rest(tools: Tools, call: Call) -> None:
    await call(await tools.rest())
    assert (await (await tools.rest()).get_server_capabilities()).supported_models


@operation("RestClient.get_external_weights_urls")
async def get_external_weights_urls(tools: Tools, call: Call) -> None:
    saved = await (await (await tools.training()).save_weights_external(tools.name()))
    found = await call(await tools.rest(), saved.path)
    assert "adapter_config.json" in found.urls
    assert all("://" in url for url in found.urls.values())


@operation("RestClient.download_checkpoint", "ServiceClient.download_checkpoint")
async def download_checkpoint(tools: Tools, call: Call) -> None:
    service = await tools.service()
    path = await tools.saved(await tools.training(service))
    owner = service if call.owner == "ServiceClient" else await tools.rest()
    with tempfile.TemporaryDirectory() as folder:
        await call(owner, path, folder)
        _is_there(Path(folder), path)


def _is_there(folder: Path, path: str) -> None:
    (found,) = folder.iterdir()
    assert found.name == path.removeprefix("tinker://").replace("/", "_")
    assert any(file.stat().st_size for file in found.rglob("*.safetensors"))
