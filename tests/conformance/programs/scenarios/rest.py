"""What RestClient offers."""

from __future__ import annotations

import io
import json
import tarfile
import urllib.request
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tinker import types

from tests.conformance.programs.scenario import TOKENS, Call, World, logprobs, scenario
from tests.conformance.programs.scenarios.service import PROJECT, telemetry


def shown(checkpoint: Any) -> dict[str, Any]:
    """What a listing says of a checkpoint."""
    return {
        "id": checkpoint.checkpoint_id,
        "type": checkpoint.checkpoint_type,
        "path": checkpoint.tinker_path,
        "public": checkpoint.public,
        "size": checkpoint.size_bytes,
        "expires": None if checkpoint.expires_at is None else checkpoint.expires_at.timestamp(),
        "time": checkpoint.time.timestamp(),
    }


def listed(world: World) -> dict[str, dict[str, Any]]:
    """The checkpoints of the shared run by their paths."""
    found = map(shown, world.rest.list_checkpoints(world.run_id).result().checkpoints)
    return {checkpoint["path"]: checkpoint for checkpoint in found}


def parts(path: str) -> tuple[str, str]:
    """The run and the checkpoint's id of a path."""
    run, _, checkpoint = path.removeprefix("tinker://").partition("/")
    return run, checkpoint


def fetched(url: str) -> bytes:
    """What lies at a signed URL, asked for without a key."""
    with urllib.request.urlopen(url, timeout=30) as reply:
        return reply.read()


def run_of(found: Any) -> dict[str, Any]:
    """What is said of a run."""
    return {
        "id": found.training_run_id,
        "base": found.base_model,
        "rank": found.lora_rank,
        "is_lora": found.is_lora,
        "corrupted": found.corrupted,
        "owner": bool(found.model_owner),
        "last": found.last_checkpoint and found.last_checkpoint.tinker_path,
        "last_sampler": found.last_sampler_checkpoint and found.last_sampler_checkpoint.tinker_path,
        "age": (datetime.now(UTC) - found.last_request_time).total_seconds(),
    }


def another_run(world: World) -> dict[str, Any]:
    """A run with one checkpoint of each kind, which nobody else saves to."""
    client = world.trained()
    return {
        "client": client,
        "id": client.model_id,
        "state": client.save_state("state").result().path,
        "sampler": client.save_weights_for_sampler("sampler").result().path,
    }


@scenario("RestClient.get_training_run")
def get_training_run(world: World, call: Call) -> Any:
    run = another_run(world)
    return {"expected": [run["id"], run["state"], run["sampler"]], **run_of(call(world.rest, run["id"]))}


@scenario("RestClient.get_training_run_by_tinker_path")
def get_training_run_by_tinker_path(world: World, call: Call) -> Any:
    run = another_run(world)
    return {"expected": [run["id"], run["state"], run["sampler"]], **run_of(call(world.rest, run["state"]))}


@scenario("RestClient.get_weights_info_by_tinker_path")
def get_weights_info_by_tinker_path(world: World, call: Call) -> Any:
    found = call(world.rest, world.kept)
    return {"base": found.base_model, "is_lora": found.is_lora, "rank": found.lora_rank, "mlp": found.train_mlp}


@scenario("RestClient.list_training_runs")
def list_training_runs(world: World, call: Call) -> Any:
    ids = [another_run(world)["id"] for _ in range(3)]
    first = call(world.rest, limit=2)
    second = call(world.rest, limit=2, offset=2)
    everybody = call(world.rest, limit=1, access_scope="accessible")
    return {
        "made": ids,
        "pages": [[run.training_run_id for run in page.training_runs] for page in (first, second)],
        "cursors": [[page.cursor.offset, page.cursor.limit] for page in (first, second)],
        "total": first.cursor.total_count,
        "accessible": len(everybody.training_runs),
    }


@scenario("RestClient.list_checkpoints")
def list_checkpoints(world: World, call: Call) -> Any:
    run = another_run(world)
    found = call(world.rest, run["id"]).checkpoints
    return {"expected": [run["state"], run["sampler"]], "found": list(map(shown, found))}


@scenario("RestClient.list_user_checkpoints")
def list_user_checkpoints(world: World, call: Call) -> Any:
    runs = [another_run(world) for _ in range(2)]
    first, second = call(world.rest, limit=3), call(world.rest, limit=3, offset=3)
    return {
        "made": [run[kind] for run in runs for kind in ("state", "sampler")],
        "pages": [[found.tinker_path for found in page.checkpoints] for page in (first, second)],
        "cursor": [second.cursor.offset, second.cursor.limit],
        "total": second.cursor.total_count,
    }


def _archive(found: Any) -> Any:
    content = fetched(found.url)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = sorted(member.name for member in archive if member.isfile())
        config = archive.extractfile("adapter_config.json")
        assert config is not None
        settings = json.load(config)
    lasts = found.expires - datetime.now(found.expires.tzinfo)
    return {
        "names": names,
        "rank": settings["r"],
        "base": settings["base_model_name_or_path"],
        "lasts": lasts.total_seconds(),
    }


@scenario("RestClient.get_checkpoint_archive_url")
def get_checkpoint_archive_url(world: World, call: Call) -> Any:
    return _archive(call(world.rest, *parts(world.kept_sampler)))


@scenario("RestClient.get_checkpoint_archive_url_from_tinker_path")
def get_checkpoint_archive_url_from_tinker_path(world: World, call: Call) -> Any:
    return _archive(call(world.rest, world.kept))


@scenario("RestClient.get_external_weights_urls")
def get_external_weights_urls(world: World, call: Call) -> Any:
    path = world.trained().save_weights_external(world.name("external")).result().path
    found = call(world.rest, path)
    files = {name: fetched(url) for name, url in found.urls.items()}
    settings = json.loads(files["adapter_config.json"])
    return {
        "names": sorted(files),
        "rank": settings["r"],
        "base": settings["base_model_name_or_path"],
        "header": len(files["adapter_model.safetensors"]) > 8,
        "lasts": (found.expires - datetime.now(found.expires.tzinfo)).total_seconds(),
    }


@scenario("RestClient.delete_checkpoint")
def delete_checkpoint(world: World, call: Call) -> Any:
    path = world.saved()
    before = path in listed(world)
    call(world.rest, *parts(path))
    return {"before": before, "after": path in listed(world), "others": world.kept in listed(world)}


@scenario("RestClient.delete_checkpoint_from_tinker_path")
def delete_checkpoint_from_tinker_path(world: World, call: Call) -> Any:
    path = world.saved()
    before = path in listed(world)
    call(world.rest, path)
    return {"before": before, "after": path in listed(world), "others": world.kept in listed(world)}


@scenario("RestClient.publish_checkpoint_from_tinker_path")
def publish_checkpoint_from_tinker_path(world: World, call: Call) -> Any:
    path = world.saved()
    before = listed(world)[path]["public"]
    call(world.rest, path)
    return {"before": before, "after": listed(world)[path]["public"]}


@scenario("RestClient.unpublish_checkpoint_from_tinker_path")
def unpublish_checkpoint_from_tinker_path(world: World, call: Call) -> Any:
    path = world.saved()
    world.rest.publish_checkpoint_from_tinker_path(path).result()
    before = listed(world)[path]["public"]
    call(world.rest, path)
    return {"before": before, "after": listed(world)[path]["public"]}


@scenario("RestClient.set_checkpoint_ttl_from_tinker_path")
def set_checkpoint_ttl_from_tinker_path(world: World, call: Call) -> Any:
    path = world.saved()
    before = listed(world)[path]["expires"]
    call(world.rest, path, 7200)
    lasts = listed(world)[path]["expires"] - datetime.now(UTC).timestamp()
    call(world.rest, path, None)
    return {"before": before, "lasts": lasts, "removed": listed(world)[path]["expires"]}


@scenario("RestClient.get_session")
def get_session(world: World, call: Call) -> Any:
    found = call(world.rest, world.session_id)
    sampler = world.sampler._sampling_session_id
    return {
        "run": world.run_id in found.training_run_ids,
        "sampler": sampler in call(world.rest, world.session_id, access_scope="accessible").sampler_ids,
        "metadata": found.user_metadata if world.recent else None,  # which the older ones don't read
    }


@scenario("RestClient.list_sessions")
def list_sessions(world: World, call: Call) -> Any:
    mine = world.session_id
    found = call(world.rest, limit=100, offset=0, access_scope="owned")
    beyond = call(world.rest, limit=5, offset=10_000)
    return {
        "mine": mine in found.sessions,
        "strings": all(isinstance(name, str) for name in found.sessions),
        "beyond": beyond.sessions,
    }


@scenario("RestClient.assign_session_project")
def assign_session_project(world: World, call: Call) -> Any:
    service = world.open_service()
    client = service.create_lora_training_client(base_model=world.model, rank=2, seed=1)
    client = client.result() if hasattr(client, "result") else client
    call(world.rest, service.holder.get_session_id(), PROJECT)
    found = world.rest.list_training_runs(project_id=PROJECT, limit=100).result().training_runs
    return {
        "there": client.model_id in [run.training_run_id for run in found],
        "shared": world.run_id in [run.training_run_id for run in found],
    }


@scenario("RestClient.export_session_trace")
def export_session_trace(world: World, call: Call) -> Any:
    session, run = world.session_id, world.run_id
    content = fetched(call(world.rest, session))
    return {"size": len(content), "run": run.encode() in content, "calls": b"forward_backward" in content}


@scenario("RestClient.whoami")
def whoami(world: World, call: Call) -> Any:
    found = call(world.rest)
    return {"user": found.user_urn, "org": getattr(found, "org_urn", None), "email": found.email}


@scenario("RestClient.get_sampler")
def get_sampler(world: World, call: Call) -> Any:
    sampler = world.service.create_sampling_client(model_path=world.kept_sampler)
    sampler = sampler.result() if hasattr(sampler, "result") else sampler
    found = call(world.rest, sampler._sampling_session_id)
    return {
        "id": [found.sampler_id, sampler._sampling_session_id],
        "base": found.base_model,
        "path": [found.model_path, world.kept_sampler],
    }


@scenario("RestClient.get_telemetry")
def get_telemetry(world: World, call: Call) -> Any:
    return telemetry(world, call, world.rest)


@scenario("RestClient.get_server_capabilities")
def get_server_capabilities(world: World, call: Call) -> Any:
    return [offered.model_dump() for offered in call(world.rest).supported_models]


@scenario("RestClient.copy_weights")
def copy_weights(world: World, call: Call) -> Any:
    copied = call(world.rest, world.kept, PROJECT, ttl_seconds=7200)
    made = world.service.create_training_client_from_state(copied).result()
    runs = world.rest.list_training_runs(project_id=PROJECT, limit=100).result().training_runs
    return {
        "source": world.kept,
        "copy": copied,
        "copied": logprobs(made),
        "original": logprobs(world.run),
        "listed": parts(copied)[0] in [run.training_run_id for run in runs],
    }


@scenario("RestClient.search_sessions")
def search_sessions(world: World, call: Call) -> Any:
    mark = world.name("searched")
    services = [world.open_service(user_metadata={"mark": mark}, display_name=f"the {mark} {n}") for n in range(3)]
    made = [service.holder.get_session_id() for service in services]
    services[0].close("success", "done").result()
    pages, cursor = [], None
    for _ in range(3):
        page = call(world.rest, types.SessionSearchRequest(user_metadata={"mark": mark}, limit=2, cursor=cursor))
        pages.append([found.session_id for found in page.sessions])
        cursor = page.next_cursor
        if cursor is None:
            break
    named = call(world.rest, types.SessionSearchRequest(display_name=mark.upper()))
    one = call(world.rest, types.SessionSearchRequest(session_id=made[0])).sessions[0]
    active = call(
        world.rest,
        types.SessionSearchRequest(user_metadata={"mark": mark}, statuses=[types.ActiveSessionStatusQuery()]),
    )
    return {
        "made": made,
        "pages": pages,
        "named": sorted(found.session_id for found in named.sessions),
        "active": sorted(found.session_id for found in active.sessions),
        "status": one.status.model_dump() if one.status else None,
        "display_name": [one.display_name, f"the {mark} 0"],
    }


def usage(world: World, call: Call, owner: Any) -> Any:
    """What has been used within the last hours, as ``owner`` is told."""
    world.trained()
    world.sampler.compute_logprobs(types.ModelInput.from_ints(TOKENS)).result()
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    found = call(owner, now - timedelta(hours=1), now + timedelta(hours=1))
    mine = [event for event in found.data if event.session_id == world.session_id]
    return {
        "kinds": sorted({event.event_info.type for event in mine}),
        "trained": sum(event.event_info.token_count for event in mine if event.event_info.type == "training"),
        "models": sorted({event.base_model for event in mine if event.event_info.type == "training"}),
        "hours": sorted({(event.bucket_end - event.bucket_start).total_seconds() for event in mine}),
        "session": found.sessions[world.session_id].user_metadata,
    }


@scenario("RestClient.get_billing_usage")
def get_billing_usage(world: World, call: Call) -> Any:
    return usage(world, call, world.rest)


def stored(world: World, call: Call, owner: Any) -> Any:
    """What checkpoints take, as ``owner`` is told."""
    assert world.kept
    sizes = sum(found.size_bytes for found in world.rest.list_user_checkpoints(limit=1000).result().checkpoints)
    found = call(owner)
    return {
        "sizes": sizes,
        "bytes": sum(row.size_bytes for row in found.data),
        "count": sum(row.checkpoint_count for row in found.data),
    }


@scenario("RestClient.get_current_checkpoint_storage_usage")
def get_current_checkpoint_storage_usage(world: World, call: Call) -> Any:
    return stored(world, call, world.rest)


def audited(world: World, call: Call, owner: Any) -> Any:
    """The log of what was done to a checkpoint, as ``owner`` is told."""
    path = world.saved()
    world.rest.publish_checkpoint_from_tinker_path(path).result()
    world.rest.delete_checkpoint_from_tinker_path(path).result()
    today = datetime.now(UTC).date()
    call = call.on_loop(owner.holder)
    found = call(owner, event_type="checkpoints", day=today)
    empty = call(owner, day=date(2020, 1, 1))
    return {
        "events": [entry.event for entry in found.entries if entry.tinker_path == path],
        "run": sorted({entry.model_id for entry in found.entries if entry.tinker_path == path}),
        "run_id": world.run_id,
        "empty": len(empty.entries),
    }


@scenario("RestClient.get_audit_log")
def get_audit_log(world: World, call: Call) -> Any:
    return audited(world, call, world.rest)
