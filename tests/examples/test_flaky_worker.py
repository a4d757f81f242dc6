"""The example of supervision alone does what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import supervision
from tests.cli.processes import environment

PROGRAM = Path(supervision.__file__).parent.parent / "examples" / "flaky_worker.py"


@pytest.mark.process
def test_the_flaky_worker_gets_everything_done() -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    pages = [line.partition(",")[0] for line in lines if line.startswith("page ")]
    assert pages == [f"page {n}" for n in range(10)]
    crashes = [line for line in lines if line.startswith("once more: ")]
    assert len(crashes) >= 1
    assert lines[-1].startswith("'- worker  running ")
    assert f"; restarts {len(crashes)}; last crash ConnectionError: the line broke" in lines[-1]
