"""The README's program does what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tinker_actors
from tests.cli.processes import environment, running
from tinker_actors.cli.piglatin import is_held_out, pig_latin

QUICKSTART = Path(tinker_actors.__file__).parent.parent / "examples" / "quickstart.py"


@pytest.mark.process
def test_the_quickstart_teaches_the_model() -> None:
    with running("serve", "--port", "0") as server:
        url = server.wait_for("listening on ").removeprefix("listening on ").strip()
        done = subprocess.run(
            [sys.executable, str(QUICKSTART)],
            env=environment(TINKER_BASE_URL=url, TINKER_API_KEY="tml-local"),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[:60]] == [f"step {n}" for n in range(1, 61)]
    answers = dict(line.split(" -> ") for line in lines[60:])
    assert len(answers) == 5
    assert all(map(is_held_out, answers))
    assert sum(given == pig_latin(word) for word, given in answers.items()) >= 3


def test_it_is_as_short_as_it_says() -> None:
    code = QUICKSTART.read_text().partition('"""\n\n')[2]
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 32
