"""How long does ``tinker-actors demo --json`` take, and how fast does it train?

One run, as a user starts it, with its faults; from its JSON and the metrics.jsonl in its run folder. It fails here
when it fails there: a demo that is fast and wrong has no figures.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from benchmarks.rows import Goal, Row
from tinker_actors.cli.faults import first_third
from tinker_actors.cli.report import Report
from tinker_actors.cli.run_folder import MetricsRow

__all__ = ["demo_rows", "run"]

STEPS: Final = 150
_BOUND: Final = 600.0


def run(steps: int = STEPS) -> list[Row]:
    """The rows of one run of ``steps`` steps."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tinker_actors.cli", "demo", "--json"]
        command += ["--steps", str(steps), "--run-dir", folder]
        begun = time.perf_counter()
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_BOUND)
        wall = time.perf_counter() - begun
        if done.returncode != 0:
            sys.stderr.write(done.stdout + done.stderr)
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        lines = (Path(folder) / "metrics.jsonl").read_bytes().splitlines()
    report = msgspec.json.decode(done.stdout.splitlines()[-1], type=Report)
    return demo_rows(report, [msgspec.json.decode(line, type=MetricsRow) for line in lines], wall)


def demo_rows(report: Report, metrics: Sequence[MetricsRow], wall: float) -> list[Row]:
    """The rows for what a run reported: ``metrics`` of each step, ``wall`` the seconds its process took."""
    third = first_third(len(metrics))
    rows = [
        Row(
            figure="demo_wall_s",
            value=wall,
            unit="s",
            goal=Goal(must=60),
            note=f"the whole process; {report.wall_s} s by its own clock",
        ),
        Row(
            figure="demo_steps_per_s",
            value=len(metrics) / metrics[-1].time,
            unit="1/s",
            note=f"{len(metrics)} steps of 32 words, from the first batch to the last result, faults included",
        ),
    ]
    quiet = metrics[third:]
    if quiet:
        seconds = quiet[-1].time - metrics[third - 1].time
        tokens = sum(row.tokens for row in quiet)
        note = "after the first third, where the faults are"
        rows += [
            Row(figure="demo_undisturbed_steps_per_s", value=len(quiet) / seconds, unit="1/s", note=note),
            Row(figure="demo_undisturbed_tokens_per_s", value=tokens / seconds, unit="tokens/s", note=note),
        ]
    return [
        *rows,
        Row(figure="demo_restarts", value=report.restarts, unit="restarts"),
        Row(figure="demo_operations_accepted", value=report.operations_accepted, unit="operations"),
        Row(figure="demo_accuracy_before", value=100 * report.accuracy_before, unit="%", goal=Goal(must=5)),
        Row(
            figure="demo_accuracy_after",
            value=100 * report.accuracy_after,
            unit="%",
            goal=Goal(must=95, at_most=False),
            note="the goal is for a run of the full length",
        ),
    ]
