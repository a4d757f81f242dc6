"""The example of a job goes on where it was killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tinker_actors
from tests.cli.processes import environment
from tinker_actors import local_server_thread

ROOT = Path(tinker_actors.__file__).parent.parent
EXAMPLE = ROOT / "examples" / "job.py"


@pytest.mark.process
def test_it_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    with local_server_thread() as server:
        settings = environment(TINKER_BASE_URL=server.url, TINKER_API_KEY=server.key, PYTHONPATH=str(ROOT))
        command = [sys.executable, str(EXAMPLE), "12"]
        with subprocess.Popen(command, cwd=tmp_path, env=settings, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("step 7"):
                    process.kill()
        done = subprocess.run(
            command, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=120, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("step 6, "), "the record of step 5 was there"
    assert last == "done"
    rows = [json.loads(row) for row in (tmp_path / "jobs" / "pig-latin" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert rows[-1]["loss"] < rows[0]["loss"] / 2
