"""Jobs as processes that are killed, interrupted and resumed, against a server on loopback."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

import tinker_actors
from tests.blocking.served import Served, served
from tests.cli.processes import COMMAND, environment

ROOT = Path(tinker_actors.__file__).parent.parent
STEPS = 9

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def server() -> Generator[Served]:
    with served() as server:
        yield server


def settings(server: Served, **more: str) -> dict[str, str]:
    return dict(environment(TINKER_BASE_URL=server.url, TINKER_API_KEY=server.key, PYTHONPATH=str(ROOT), **more))


@contextmanager
def program(
    server: Served, folder: Path, steps: int = STEPS, pause: float = 0.0, module: str = "program"
) -> Generator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", f"tests.recovery.jobs.{module}", str(folder), str(steps), str(pause)]
    with subprocess.Popen(
        command, env=settings(server), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def until(process: subprocess.Popen[str], start: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            return
    raise AssertionError(f"no line begins with {start!r}: {process.stderr.read() if process.stderr else ''}")


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, errors = process.communicate(timeout=60)
    return process.returncode, out, errors


def to_the_end(server: Served, folder: Path, steps: int = STEPS) -> str:
    """Run it to its end; the digest of its weights."""
    with program(server, folder, steps) as process:
        code, out, errors = finished(process)
    assert code == 0, errors
    words = out.splitlines()[-1].split()
    assert words[:2] == ["end", "True"]
    return digest(server, folder)


def record(folder: Path) -> dict:
    return json.loads((folder / "job" / "record.json").read_text())


def digest(server: Served, folder: Path) -> str:
    """Of the weights in the record's checkpoint."""
    path = record(folder)["point"]["checkpoint"]
    found = server.ask(lambda service: service.catalog.whosever(path))
    data = server.ask(lambda service: service.catalog.read(found))
    return hashlib.sha256(data).hexdigest()


def rows(folder: Path) -> list[str]:
    return (folder / "job" / "metrics.jsonl").read_text().splitlines()


@pytest.fixture(scope="module")
def calm(server: Served, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    folder = tmp_path_factory.mktemp("calm")
    weights, there = to_the_end(server, folder), rows(folder)
    assert [json.loads(row)["step"] for row in there] == list(range(1, STEPS + 1))
    return weights, there


def test_a_kill_at_a_random_moment_changes_nothing(server: Served, tmp_path: Path, calm: tuple[str, list[str]]):
    rng = random.Random(int.from_bytes(str(tmp_path).encode()[-8:]))
    for _ in range(2):
        with program(server, tmp_path, pause=0.05) as process:
            until(process, "step ")
            time.sleep(rng.uniform(0.0, 0.4))
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert record(tmp_path)["status"] == "running"
    assert (to_the_end(server, tmp_path), rows(tmp_path)) == calm


@pytest.mark.parametrize(
    ("number", "module"),
    [(signal.SIGINT, "program"), (signal.SIGTERM, "program"), (signal.SIGINT, "plain_program")],
)
def test_one_ctrl_c_is_an_orderly_end_that_says_how_to_go_on(
    server: Served, tmp_path: Path, calm: tuple[str, list[str]], number: signal.Signals, module: str
):
    with program(server, tmp_path, pause=0.2, module=module) as process:
        until(process, "step 3")
        process.send_signal(number)
        code, out, errors = finished(process)
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert code == 0, errors
    assert f"loop left: {name}" in out
    assert f"{name}: the job stops after this step, with a checkpoint. Once more leaves now" in errors
    found = record(tmp_path)
    assert (found["status"], found["reason"]) == ("stopped", name)
    step = found["point"]["step"]
    assert step >= 3
    assert (
        f"The job job has stopped after step {step} of {STEPS} ({name}). To go on, run the program again, or: "
        in errors
    )
    assert f"tinker-actors job resume job --folder {tmp_path}" in errors
    told = [line for line in errors.splitlines() if "has stopped after" in line and not line.startswith("INFO:")]
    assert len(told) == 1, "a program without a log of its own shows it once"
    assert "Traceback" not in errors
    assert (to_the_end(server, tmp_path), rows(tmp_path)) == calm


@pytest.mark.parametrize("module", ["program", "plain_program"])
def test_a_ctrl_c_that_has_ended_whoever_reads_the_log_is_an_orderly_end_too(
    server: Served, tmp_path: Path, calm: tuple[str, list[str]], module: str
):
    """As in ``python train.py 2>&1 | tee log``."""
    with program(server, tmp_path, pause=0.2, module=module) as process:
        until(process, "step 3")
        assert process.stderr is not None
        process.stderr.close()
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        out = process.stdout.read()
        assert process.wait(timeout=60) == 0
    assert "loop left: Ctrl-C" in out
    found = record(tmp_path)
    assert (found["status"], found["reason"]) == ("stopped", "Ctrl-C")
    assert found["point"]["step"] >= 3
    assert (to_the_end(server, tmp_path), rows(tmp_path)) == calm


def test_the_second_ctrl_c_leaves_now(server: Served, tmp_path: Path):
    with program(server, tmp_path, pause=300.0) as process:
        until(process, "step 1")
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while "Once more leaves now" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == -signal.SIGINT


def test_the_recorded_command_line_is_run_again(server: Served, tmp_path: Path, calm: tuple[str, list[str]]):
    with program(server, tmp_path, pause=0.2) as process:
        until(process, "step 3")
        process.kill()

    def job(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "job", *words, "--folder", str(tmp_path)],
            env=settings(server),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    listed = job("list")
    assert listed.stdout.splitlines()[1].split()[:3] == [
        "job",
        "died",
        f"{record(tmp_path)['point']['step']}/{STEPS}",
    ]
    shown = job("show", "job")
    assert f"tests.recovery.jobs.program {tmp_path} {STEPS} 0.2" in shown.stdout
    resumed = job("resume", "job")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.splitlines()[-1].startswith("end True")
    assert (digest(server, tmp_path), rows(tmp_path)) == calm
    again = job("resume", "job")
    assert (again.returncode, again.stdout) == (0, f"the job job is done, with {STEPS} steps\n")


def test_a_job_that_runs_is_not_resumed(server: Served, tmp_path: Path):
    with program(server, tmp_path, pause=300.0) as process:
        until(process, "step 1")
        done = subprocess.run(
            [*COMMAND, "job", "resume", "job", "--folder", str(tmp_path)],
            env=settings(server),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("tinker-actors job: the job job is being run by another process")
        with program(server, tmp_path) as other:
            code, _, errors = finished(other)
        assert code == 1
        assert "JobInUse: the job job is being run by another process" in errors
        process.kill()


def test_no_key_is_in_the_record(server: Served, tmp_path: Path):
    to_the_end(server, tmp_path, 1)
    assert server.key not in (tmp_path / "job" / "record.json").read_text()
