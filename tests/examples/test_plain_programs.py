"""The programs without trio do what they say, as scripts of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tinker_actors
from tests.cli.processes import environment
from tinker_actors import local_server_thread
from tinker_actors.cli.piglatin import is_held_out

EXAMPLES = Path(tinker_actors.__file__).parent.parent / "examples"


def _lines(name: str) -> list[str]:
    with local_server_thread() as server:
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / name)],
            env=environment(TINKER_BASE_URL=server.url, TINKER_API_KEY=server.key),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def _losses(lines: list[str]) -> list[float]:
    return [float(line.partition(": loss ")[2]) for line in lines]


@pytest.mark.process
def test_the_plain_script_teaches_the_model() -> None:
    lines = _lines("plain_script.py")
    losses = _losses(lines[:20])
    assert losses[-1] < losses[0] / 2
    answers = dict(line.split(" -> ") for line in lines[20:])
    assert len(answers) == 3
    assert all(map(is_held_out, answers))


@pytest.mark.process
def test_the_asyncio_program_pipelines_and_samples() -> None:
    lines = _lines("asyncio_program.py")
    losses = _losses(lines[:-1])
    assert len(losses) == 20
    assert losses[-1] < losses[0] / 10
    count, _, rest = lines[-1].partition(" of 16 samples")
    assert int(count) >= 12
    assert rest == " go on with 'five'"
