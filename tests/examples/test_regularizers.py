"""The example of regularizers does what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tinker_actors
from tests.cli.processes import environment

PROGRAM = Path(tinker_actors.__file__).parent.parent / "examples" / "regularizers.py"


@pytest.mark.process
def test_each_part_is_shown_and_the_failing_one_left_out() -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    base, entropy, close, total, left_out = done.stdout.splitlines()
    assert base == "base loss 1.0516, |gradient| 1.9365"
    assert entropy.startswith("entropy: 0.1 x -0.8394, ")
    assert close.startswith("stay close: 0.5 x ")
    assert total.startswith("total 0.9727")
    assert left_out.startswith("left out: broken: raised ZeroDivisionError: no data with this label.")
