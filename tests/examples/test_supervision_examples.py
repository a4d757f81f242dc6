"""The longer examples of supervision alone do what they say: under any schedule, as programs, and after Ctrl-C."""

from __future__ import annotations

import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

import supervision
from supervision.testing import run_seeded
from tests.cli.processes import environment

EXAMPLES = Path(supervision.__file__).parent.parent / "examples"


def load(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / name), run_name="example")


@pytest.mark.parametrize("name", ["ingestion.py", "worker_pool.py"])
def test_they_are_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) <= 120


def test_the_ingestion_holds_under_any_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    ingestion = load("ingestion.py")
    for seed in range(10):
        run_seeded(ingestion["main"], 200, seed, seed=seed)
        first, tree, *_, last = capsys.readouterr().out.splitlines()
        assert first == "taking in 200 lines"
        assert tree.startswith("ingestion  running ")
        assert last.startswith("200 lines accepted and stored, ")


def test_an_ingestion_that_is_cut_off_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    ingestion = load("ingestion.py")

    async def cut(after: float) -> None:
        with trio.move_on_after(after):
            await ingestion["main"](1000, 1)

    for seed in range(20):
        run_seeded(cut, 0.01 + 0.013 * seed, seed=seed)  # its own assertion tells
        assert "the store ends with" in capsys.readouterr().out


def test_the_pool_holds_under_any_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    pool = load("worker_pool.py")
    for seed in range(10):
        run_seeded(pool["main"], seed, seed=seed)
        lines = capsys.readouterr().out.splitlines()
        (victim,) = [line for line in lines if "last crash ValueError: poisoned" in line]
        assert victim.startswith("   |- teller2  degraded ")
        assert "; restarts 50; " in victim
        assert lines[-1] == "10 accounts with 20 each; teller2 was shut for grace, john, mallory, tony"


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("ingestion.py", "500 lines accepted and stored, 55 crashes, 8 queued at most"),
        ("worker_pool.py", "10 accounts with 20 each; teller2 was shut for grace, john, mallory, tony"),
    ],
)
def test_they_run_as_programs_and_say_the_same_each_time(name: str, last: str) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == last


@pytest.mark.process
def test_ctrl_c_ends_the_ingestion_in_order() -> None:
    with subprocess.Popen(
        [sys.executable, "-u", str(EXAMPLES / "ingestion.py"), "1000000"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        begun = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert (begun, process.returncode, errors) == ("taking in 1000000 lines\n", 0, "")
    ends, stopped = output.splitlines()
    assert ends.startswith("the store ends with ")
    assert ends.endswith(" rows: cancelled")
    assert stopped == "stopped in order"
