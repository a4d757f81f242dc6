"""What is acknowledged outlives kills and full disks; one directory has one server."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.processes import environment, running
from tests.local.harness import create_body
from tests.local.killed_server import Caller, check_files, kill_again_and_again
from tests.local.process import KEY, Served, serving
from tinker_actors.errors import InvalidInput
from tinker_actors.local.applied import AppliedLog, AppliedOperation
from tinker_actors.local.storage import DirectoryStorage

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("seed", "kills"), [(1, 3), pytest.param(2, 20, marks=pytest.mark.ci)], ids=["3 kills", "20 kills"]
)
def test_kills_under_load_lose_nothing_that_was_acknowledged(tmp_path: Path, seed: int, kills: int) -> None:
    load, loaded = kill_again_and_again(tmp_path, seed, kills)
    assert load.acknowledged > kills
    assert loaded > kills / 2


def test_a_kill_at_any_line_of_the_storage_loses_nothing_that_was_acknowledged() -> None:
    # in memory where there is such a folder: to a kill it is all the same, and syncing costs nothing there
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.local.killed_storage", folder],
            cwd=ROOT,
            env=environment(PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 100  # lines, each of which a child was killed at


def test_a_second_server_on_a_directory_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        caller = Caller(served.url)
        session = caller.session()
        model = caller.result("/create_model", create_body(session))["model_id"]
        path = caller.result("/save_weights", {"model_id": model, "seq_id": 1, "path": "a"})["path"]
        arguments = ("serve", "--port", "0", "--base-model", "tinker-actors/tiny", "--directory", str(tmp_path))
        with running(*arguments) as second:
            code, lines, errors = second.finish()
        assert (code, lines) == (2, [])
        assert errors == (
            f"tinker-actors serve: directory: {tmp_path} is in use by another server. "
            "Stop that one, or use another directory\n"
        )
        body = {"session_id": session, "model_seq_id": 1, "path": path, "optimizer": True}
        assert caller.digest(caller.result("/load_weights", body)["model_id"]) == caller.digest(model)
        caller.close()
        check_files(tmp_path)


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_directory_whose_database_is_broken_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "server.sqlite3").write_bytes(content)
    for _ in range(2):  # and it is let go of
        with pytest.raises(InvalidInput, match=r"directory: the database in .* can't be used"):
            DirectoryStorage(tmp_path)
    assert (tmp_path / "server.sqlite3").read_bytes() == content


@contextmanager
def limited_files(served: Served) -> Generator[None]:
    """No file of the server may grow: as on a full disk, each write fails. The server's own pipes go on."""
    process = served.process.pid
    before = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, before)


@contextmanager
def filled_disk(directory: Path) -> Generator[None]:
    """Not a byte is left on the disk of ``directory``."""
    filling = directory / "filling"
    with filling.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    try:
        yield
    finally:
        filling.unlink()


def live_through(served: Served, directory: Path, full: Callable[[], Any], *, log_fails: bool) -> None:
    """Train and save before, on, and after a full disk, and look at everything in the end."""
    caller = Caller(served.url)
    session = caller.session()
    model = caller.result("/create_model", create_body(session))["model_id"]
    http = httpx.Client(base_url=served.url + "/api/v1", headers={"x-api-key": KEY}, timeout=60)

    def step(seq: int) -> None:
        caller.result("/optim_step", {"model_id": model, "seq_id": seq, "adam_params": {"learning_rate": 0.1}})

    def save(seq: int, name: str) -> dict[str, Any]:
        body = {"model_id": model, "seq_id": seq, "path": name, "overwrite": True}
        promise = caller.post("/save_weights", body)["request_id"]
        while (answer := caller.post("/retrieve_future", {"request_id": promise})).get("type") == "try_again":
            pass
        return answer

    step(1)
    before = caller.digest(model)
    kept = save(2, "kept")["path"]
    with full():
        step(3)  # what needs no disk goes on
        for seq, name in ((4, "kept"), (5, "lost")):
            answer = save(seq, name)
            assert answer["category"] == "server", answer
            assert "the server's disk fails it" in answer["error"]
            assert any(words in answer["error"] for words in ("No space left", "File too large", "full"))
        refused = http.post("/create_session", json={"tags": [], "user_metadata": {}, "sdk_version": "0"})
        assert refused.status_code == 503
        assert "could not be kept" in refused.json()["detail"]
        step(6)
        assert ("log_failure" in caller.get("/local/queue")) is log_fails
        listed = caller.get(f"/training_runs/{model}/checkpoints")["checkpoints"]
        assert [entry["tinker_path"] for entry in listed] == [kept]
    after = caller.digest(model)
    again = save(7, "again")["path"]
    assert "log_failure" not in caller.get("/local/queue")
    for number, (path, digest) in enumerate(((kept, before), (again, after))):
        body = {"session_id": caller.session(), "model_seq_id": number, "path": path, "optimizer": True}
        assert caller.digest(caller.result("/load_weights", body)["model_id"]) == digest
    check_files(directory)
    log = [json.loads(line) for line in (directory / "applied.jsonl").read_text().splitlines()]
    assert [entry["seq_id"] for entry in log if entry["model_id"] == model] == [1, 2, 3, 6, 7]
    caller.close()
    http.close()


def test_a_disk_that_takes_nothing_is_told_and_lived_through(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        live_through(served, tmp_path, lambda: limited_files(served), log_fails=True)


def test_a_small_disk_that_is_full_is_told_and_lived_through(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)], check=False)
    if mounted.returncode != 0:
        pytest.skip("a disk of its own takes root")
    try:
        directory = tmp_path / "state"
        with serving(directory) as served:
            live_through(served, directory, lambda: filled_disk(tmp_path), log_fails=False)  # its page has room
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def operation(seq: int) -> AppliedOperation:
    return AppliedOperation(model_id="m", seq_id=seq, kind="optim_step", digest="d", request_id=f"r{seq}")


def test_the_log_catches_up_when_there_is_room_again(tmp_path: Path) -> None:
    path = tmp_path / "applied.jsonl"
    log = AppliedLog(path)
    log.append(operation(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, before[1]))  # room for a part of a line
        log.append(operation(2))
        log.append(operation(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert log.failure is not None
    assert not path.read_text().endswith("\n")
    log.append(operation(4))
    assert log.failure is None
    assert [json.loads(line)["seq_id"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]
    log.close()


@pytest.mark.parametrize("half", ['{"model_id"', "", "x" * 200_000])
def test_half_a_line_at_the_end_of_the_log_is_cut_off_at_the_start(tmp_path: Path, half: str) -> None:
    path = tmp_path / "applied.jsonl"
    whole = '{"seq_id": 1}\n{"seq_id": 2}\n'
    for text in (whole, ""):
        path.write_text(text + half)
        log = AppliedLog(path)
        log.append(operation(3))
        log.close()
        lines = path.read_text().splitlines()
        assert [json.loads(line)["seq_id"] for line in lines] == ([1, 2, 3] if text else [3])
