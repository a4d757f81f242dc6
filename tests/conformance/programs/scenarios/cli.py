"""The commands of ``tinker``, run as users run them, but without a process each."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner
from tinker.cli.__main__ import main_cli

from tests.conformance.programs.hub import serving_hub
from tests.conformance.programs.scenario import Call, World, scenario
from tests.conformance.programs.scenarios.rest import another_run, fetched, listed


def commands(group: Any = main_cli, prefix: str = "") -> Iterator[str]:
    """All of them, such as "run list"."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        path = f"{prefix} {name}".strip()
        if hasattr(found, "list_commands"):
            yield from commands(found, path)
        else:
            yield path


@contextmanager
def environment(**values: str | None) -> Iterator[None]:
    """These variables for a while; None is unset."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def run(world: World, *arguments: str, typed: str | None = None, key: bool = True) -> str:
    """What the command writes; an error is raised."""
    with environment(TINKER_BASE_URL=world.url, TINKER_API_KEY=world.key if key else None, HOME=str(world.folder)):
        done = CliRunner().invoke(main_cli, list(arguments), input=typed, catch_exceptions=False)
    assert done.exit_code == 0, (arguments, done.exit_code, done.output)
    return done.stdout


def read(world: World, *arguments: str) -> Any:
    """What the command writes as JSON."""
    return json.loads(run(world, "--format", "json", *arguments))


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@scenario("tinker version")
def version(world: World, _call: Call) -> Any:
    return {"text": run(world, "version").strip(), "version": world.version}


@scenario("tinker auth login")
def login(world: World, _call: Call) -> Any:
    return {"text": run(world, "auth", "login", typed=f"{world.key}\n", key=False), "secret": world.key}


@scenario("tinker auth logout")
def logout(world: World, _call: Call) -> Any:
    stored = world.folder / ".tinker" / "credentials.json"
    before = json.loads(stored.read_text())
    text = run(world, "auth", "logout", key=False)
    return {"text": text, "before": len(before["keys"]), "after": len(json.loads(stored.read_text())["keys"])}


@scenario("tinker auth status")
def status(world: World, _call: Call) -> Any:
    return run(world, "auth", "status")


@scenario("tinker auth whoami")
def whoami(world: World, _call: Call) -> Any:
    return read(world, "auth", "whoami")


@scenario("tinker model list")
def model_list(world: World, _call: Call) -> Any:
    return {
        "all": read(world, "model", "list"),
        "some": read(world, "model", "list", "TINY"),
        "table": run(world, "model", "list"),
    }


@scenario("tinker run list")
def run_list(world: World, _call: Call) -> Any:
    made = another_run(world)["id"]
    columns = "id,model,owner,lora,updated,status,checkpoint,checkpoint_time"
    return {
        "made": made,
        "newest": read(world, "run", "list", "--limit", "1")["runs"][0]["training_run_id"],
        "all": len(read(world, "run", "list", "--limit", "0")["runs"]),
        "total": world.rest.list_training_runs(limit=1).result().cursor.total_count,
        "table": run(world, "run", "list", "--limit", "2", "--columns", columns),
    }


@scenario("tinker run info")
def run_info(world: World, _call: Call) -> Any:
    made = another_run(world)
    found = read(world, "run", "info", made["id"])
    return {"made": [made["id"], made["state"]], "found": found, "table": run(world, "run", "info", made["id"])}


@scenario("tinker checkpoint list")
def checkpoint_list(world: World, _call: Call) -> Any:
    made = another_run(world)
    return {
        "made": [made["state"], made["sampler"]],
        "of_run": read(world, "checkpoint", "list", "--run-id", made["id"]),
        "newest": read(world, "checkpoint", "list", "--limit", "2"),
        "table": run(world, "checkpoint", "list", "--limit", "2"),
    }


@scenario("tinker checkpoint info")
def checkpoint_info(world: World, _call: Call) -> Any:
    return {
        "path": world.kept,
        "found": read(world, "checkpoint", "info", world.kept),
        "table": run(world, "checkpoint", "info", world.kept),
    }


@scenario("tinker checkpoint publish")
def publish(world: World, _call: Call) -> Any:
    path = world.saved()
    return {"text": run(world, "checkpoint", "publish", path), "public": listed(world)[path]["public"]}


@scenario("tinker checkpoint unpublish")
def unpublish(world: World, _call: Call) -> Any:
    path = world.saved()
    run(world, "checkpoint", "publish", path)
    return {"text": run(world, "checkpoint", "unpublish", path), "public": listed(world)[path]["public"]}


@scenario("tinker checkpoint set-ttl")
def set_ttl(world: World, _call: Call) -> Any:
    path = world.saved()
    run(world, "checkpoint", "set-ttl", path, "--ttl", "7200")
    lasts = listed(world)[path]["expires"] - datetime.now(UTC).timestamp()
    run(world, "checkpoint", "set-ttl", path, "--remove")
    return {"lasts": lasts, "removed": listed(world)[path]["expires"]}


@scenario("tinker checkpoint delete")
def delete(world: World, _call: Call) -> Any:
    paths, made = [world.saved(), world.saved()], another_run(world)
    by_path = read(world, "checkpoint", "delete", "--yes", *paths, paths[0])
    by_run = read(world, "checkpoint", "delete", "--run-id", made["id"], "--type", "sampler_weights", "--yes")
    left = world.rest.list_checkpoints(made["id"]).result().checkpoints
    refused = run(world, "checkpoint", "delete", made["state"], typed="n\n")
    return {
        "paths": [path in listed(world) for path in paths],
        "by_path": [by_path["deleted_count"], len(by_path["failed"])],
        "by_run": by_run,
        "left": [found.tinker_path for found in left],
        "state": made["state"],
        "refused": refused,
    }


@scenario("tinker checkpoint download")
def download(world: World, _call: Call) -> Any:
    folder = world.folder / world.name("downloads")
    found = read(world, "checkpoint", "download", world.kept, "--output", str(folder))
    target = Path(found["destination"])
    settings = json.loads((target / "adapter_config.json").read_text())
    again = read(world, "checkpoint", "download", world.kept, "--output", str(folder), "--force")
    return {
        "size": [found["file_size_bytes"], again["file_size_bytes"]],
        "folder": [target.name, world.kept.removeprefix("tinker://").replace("/", "_")],
        "files": _files(target),
        "rank": settings["r"],
        "listed": [
            path for path, shown in listed(world).items() if shown["type"] == "external" and "download" in path
        ],
    }


@scenario("tinker checkpoint push-hf")
def push_hf(world: World, _call: Call) -> Any:
    command = [
        "-m",
        "tinker.cli",
        "--format",
        "json",
        "checkpoint",
        "push-hf",
        world.kept,
        "--repo",
        "somebody/adapter",
    ]
    with serving_hub() as hub:
        # a process of its own, because the hub's address is read once, when its client is imported
        ours = {"TINKER_BASE_URL": world.url, "TINKER_API_KEY": world.key, "HOME": str(world.folder)}
        theirs = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_test", "HF_HUB_OFFLINE": "0"}
        environ = {**os.environ, **ours, **theirs}
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environ, check=False)
        assert done.returncode == 0, done.stderr
    return {
        "found": json.loads(done.stdout),
        "path": world.kept,
        "made": hub.repositories,
        "files": sorted(hub.files),
    }


@scenario("tinker session export-trace")
def export_trace(world: World, _call: Call) -> Any:
    target = world.folder / world.name("trace")
    found = read(world, "session", "export-trace", world.session_id, "--output", str(target))
    url = read(world, "session", "export-trace", world.session_id, "--url-only")["url"]
    return {"size": [found["file_size_bytes"], target.stat().st_size], "fetched": len(fetched(url)) > 0}


@scenario("tinker billing usage")
def billing_usage(world: World, _call: Call) -> Any:
    world.trained()
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    span = [(now + timedelta(hours=hours)).isoformat() for hours in (-1, 1)]
    target, sessions = world.folder / "usage.csv", world.folder / "sessions.csv"
    found = read(world, "billing", "usage", *span)
    run(world, "billing", "usage", *span, "--csv", str(target), "--sessions-csv", str(sessions))
    return {
        "trained": sum(
            row["event_info"]["token_count"]
            for row in found["data"]
            if row["event_info"]["type"] == "training" and row["session_id"] == world.session_id
        ),
        "rows": [len(found["data"]), len(list(csv.DictReader(target.open())))],
        "session": world.session_id in [row["session_id"] for row in csv.DictReader(sessions.open())],
    }


@scenario("tinker billing checkpoint-storage")
def checkpoint_storage(world: World, _call: Call) -> Any:
    sizes = sum(found.size_bytes for found in world.rest.list_user_checkpoints(limit=1000).result().checkpoints)
    found = read(world, "billing", "checkpoint-storage")
    return {"sizes": sizes, "bytes": sum(row["size_bytes"] for row in found["data"])}
