"""The terminal: lines, and one at the bottom that is rewritten; and progress on both kinds of output."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path

import trio
import trio.testing

from tinker_actors.cli.display import Display, printable
from tinker_actors.cli.progress import Progress, queue_state
from tinker_actors.cli.run_folder import open_run_folder
from tinker_actors.flow.pending import Pending


def _screen(written: str) -> list[str]:
    """What a terminal shows after ``written``: lines, the last of them being written."""
    lines = [""]
    for piece in re.split(r"(\r\x1b\[2K|\n)", written):
        if piece == "\n":
            lines.append("")
        elif piece == "\r\x1b[2K":
            lines[-1] = ""
        else:
            lines[-1] += piece
    return lines


def _pending(name: str, reason: str = "") -> Pending:
    return Pending(name=name, kind="optim_step", state="promised", reason=reason, age=1.0, since=0.5)


def test_lines_pass_above_the_status() -> None:
    stream = io.StringIO()
    display = Display(stream, live=True)
    display.line("server", "is up")
    display.status("step 1")
    display.status("step 2")
    display.line("crash", "boom")
    assert _screen(stream.getvalue()) == ["server    is up", "crash     boom", "step 2"]
    display.end_status()
    display.end_status()
    assert _screen(stream.getvalue()) == ["server    is up", "crash     boom", ""]


def test_the_status_stays_within_one_line() -> None:
    stream = io.StringIO()
    Display(stream, live=True).status("x" * 500)
    (line,) = _screen(stream.getvalue())
    assert line.endswith("…")
    assert len(line) < 120


def test_without_a_terminal_there_are_plain_lines_only() -> None:
    stream = io.StringIO()
    display = Display(stream, live=False)
    display.status("step 1")
    display.line("tree", "now:")
    display.block("a\n  b")
    display.end_status()
    assert stream.getvalue() == "tree      now:\n  a\n    b\n"


def test_a_reader_that_leaves_ends_the_output_and_nothing_else() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        display = Display(stream, live=True)
        display.line("one")
        os.close(reading)
        display.line("two")
        display.status("three")
        display.line("four")


def test_the_queue_state_names_the_oldest_and_counts_the_rest() -> None:
    assert queue_state([]) == "empty"
    rows = [_pending("session-0/training-0#7", "the server works on it"), _pending("session-0/training-0#8")]
    assert queue_state(rows[1:]) == "#8 optim_step promised"
    assert queue_state(rows) == "#7 optim_step promised (the server works on it), 1 behind"


async def test_progress_without_a_terminal(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    stream = io.StringIO()
    with open_run_folder(tmp_path, seed=0, steps=60, faults=False) as folder:
        progress = Progress(Display(stream, live=False), folder, 60)
        progress.begin("step", 60)
        for step in range(1, 61):
            await trio.sleep(0.1)
            progress.refresh([_pending("#1")])
            progress.record(step, 4.0 / step, 0.003, 1000, [])
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 61))
    assert rows[9] == {
        "step": 10,
        "loss": 0.4,
        "learning_rate": 0.003,
        "tokens": 1000,
        "tokens_per_s": 10000.0,
        "time": 1.0,
    }
    lines = stream.getvalue().splitlines()
    assert 10 <= len(lines) <= 20
    assert lines[0] == "step       1/60  loss 4.0000   10,000 tokens/s  queue: empty"
    assert lines[-1].startswith("step      60/60")


async def test_progress_on_a_terminal(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    stream = io.StringIO()
    with open_run_folder(tmp_path, seed=0, steps=60, faults=False) as folder:
        progress = Progress(Display(stream, live=True), folder, 60)
        progress.begin("before", 200)
        progress.advance()
        progress.refresh([_pending("#1"), _pending("#2")])
        assert _screen(stream.getvalue()) == ["before    1/200  queue: #1 optim_step promised, 1 behind"]
        progress.begin("step", 60)
        for step in range(1, 4):
            await trio.sleep(0.5)
            progress.record(step, 2.0, 0.003, 1000, [_pending("#3")])
        assert _screen(stream.getvalue()) == [
            "step       3/60  loss 2.0000    2,000 tokens/s  queue: #3 optim_step promised"
        ]
        progress.begin("again", 20)
        progress.refresh([])
        assert _screen(stream.getvalue()) == ["again     0/20  queue: empty"]


async def test_silence_is_explained(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    stream = io.StringIO()
    with open_run_folder(tmp_path, seed=0, steps=60, faults=False) as folder:
        progress = Progress(Display(stream, live=False), folder, 60)
        for _ in range(48):
            await trio.sleep(0.25)
            progress.refresh([_pending("a#3", "try 2 in 4.0 s after APIConnectionError: refused")])
    assert (
        stream.getvalue().splitlines()
        == ["waiting   #3 optim_step promised (try 2 in 4.0 s after APIConnectionError: refused)"] * 2
    )


def test_what_a_model_says_cant_disturb_the_terminal() -> None:
    assert printable("ingstray \x1b[2J\r\ufffd é") == "ingstray \\x1b[2J\\r\ufffd é"
