"""The example of a server and its client in one program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tinker_actors
from tests.cli.processes import environment

ROOT = Path(tinker_actors.__file__).parent.parent
EXAMPLE = ROOT / "examples" / "embedded_server.py"


@pytest.mark.process
def test_it_trains_without_a_second_program() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    *steps, applied = done.stdout.splitlines()
    losses = [float(line.rpartition(" ")[2]) for line in steps]
    assert len(losses) == 8
    assert losses[-1] < losses[0] / 2
    assert applied == "the server applied 16 operations"
