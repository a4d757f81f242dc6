"""The demo as its user runs it: a process, a real server over HTTP, faults, the proof, and every way to end it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.processes import Running, alive, gone, running
from tinker_actors.cli import story
from tinker_actors.cli.arguments import DemoOptions
from tinker_actors.cli.demo import run_demo
from tinker_actors.cli.proof import ServerRecords

pytestmark = pytest.mark.process

STEPS = 60
FIELDS = [
    "accuracy_before",
    "accuracy_after",
    "operations_accepted",
    "operations_applied",
    "in_order",
    "digest_equal",
    "restarts",
    "wall_s",
]


def _closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, Running]]:
    """Runs that mostly wait: they start together with the first test and are looked at in the last ones."""
    folder = tmp_path_factory.mktemp("slow")
    with ExitStack() as stack:
        url = f"http://127.0.0.1:{_closed_port()}"
        nobody = ("demo", "--base-url", url, "--api-key", "tml-x", "--run-dir", str(folder / "nobody"))
        killed = ("demo", "--steps", "400", "--no-faults", "--run-dir", str(folder / "killed"))
        runs = {"nobody": stack.enter_context(running(*nobody)), "killed": stack.enter_context(running(*killed))}
        server = runs["killed"].server_pid()
        runs["killed"].wait_for("step ")
        os.kill(server, signal.SIGKILL)
        yield runs


def test_the_whole_demo(slow: dict[str, Running], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with running("demo", "--steps", str(STEPS), "--seed", "1", "--run-dir", str(folder), "--json") as demo:
        server = demo.server_pid()
        code, lines, errors = demo.finish()
    text = "\n".join(lines)
    assert code == 0, text + errors
    assert errors == ""

    report = json.loads(lines[-1])
    assert list(report) == FIELDS
    assert report["accuracy_before"] < 0.05
    assert report["accuracy_after"] >= 0.85
    # two operations a step, and the sampler's weights at the end
    assert report["operations_accepted"] == report["operations_applied"] == 2 * STEPS + 1
    assert report["in_order"] is True
    assert report["digest_equal"] is True
    assert report["restarts"] == 2
    assert report["wall_s"] > 0

    labels = [line[:10].rstrip() for line in lines]
    assert labels.count("crash") == 2
    assert labels.count("fault") == 4
    assert labels.count("re-send") >= 2
    assert labels.index("crash") < labels.index("again") < labels.index("proof")
    for words in ("before it is sent", "while it polls", "before POST", "after the server acted on POST"):
        assert words in text
    assert "training-0" in text[text.index("\ntree ") :]
    assert text.count("ok      ") == 3
    assert "FAILED" not in text

    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert sum(row["loss"] for row in rows[-10:]) < sum(row["loss"] for row in rows[:10]) / 4
    assert ElementTree.parse(folder / "loss.svg").getroot().tag.endswith("svg")
    assert "InjectedCrash" in (folder / "demo.log").read_text()
    assert gone(server)


def test_a_few_steps_without_faults(slow: dict[str, Running], tmp_path: Path) -> None:
    with running("demo", "--steps", "3", "--no-faults", "--run-dir", str(tmp_path), "--json") as demo:
        code, lines, errors = demo.finish()
    assert (code, errors) == (0, "")
    report = json.loads(lines[-1])
    assert (report["operations_applied"], report["digest_equal"], report["restarts"]) == (7, True, 0)
    assert not any(line.startswith(("crash", "fault", "restart", "re-send")) for line in lines)


def test_ctrl_c_tears_down_in_order_and_says_what_is_kept(slow: dict[str, Running], tmp_path: Path) -> None:
    with running("demo", "--steps", "3000", "--run-dir", str(tmp_path)) as demo:
        server = demo.server_pid()
        demo.wait_for("step ")
        demo.process.send_signal(signal.SIGINT)
        code, lines, errors = demo.finish()
    assert (code, errors) == (130, "")
    stopped = [line.split()[-1].rpartition("/")[2] for line in lines if line.startswith("stopped ")]
    assert stopped.index("training-0") < stopped.index("heartbeat") < stopped.index("manager")
    steps = len((tmp_path / "metrics.jsonl").read_text().splitlines())
    assert steps >= 1
    assert lines[-2].startswith(f"kept      {tmp_path}: metrics.jsonl ({steps} of 3000 steps), loss.svg, demo.log")
    assert "has ended with it" in lines[-1]
    assert gone(server)


def test_the_server_ends_with_a_demo_that_is_killed(slow: dict[str, Running], tmp_path: Path) -> None:
    with running("demo", "--run-dir", str(tmp_path)) as demo:
        server = demo.server_pid()
        demo.process.kill()
        demo.process.wait()
        try:
            assert gone(server)
        finally:
            if alive(server):
                os.kill(server, signal.SIGKILL)  # a failure leaves nothing behind


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with running("demo", "--run-dir", str(tmp_path)) as demo:
        code, lines, errors = demo.finish()
    assert (code, lines) == (2, [])
    assert errors.startswith("tinker-actors demo: --run-dir: ")
    assert errors.count("\n") == 1


def test_a_malformed_key_is_refused_and_not_shown(tmp_path: Path) -> None:
    with running("demo", "--api-key", "hunter2", "--run-dir", str(tmp_path / "run")) as demo:
        code, lines, errors = demo.finish()
    assert (code, lines) == (2, [])
    assert "api_key (option api_key): does not start with 'tml-'" in errors
    assert errors.count("\n") == 1
    assert "hunter2" not in errors
    assert not (tmp_path / "run").exists()


def test_a_url_that_nobody_answers_at(slow: dict[str, Running]) -> None:
    code, lines, errors = slow["nobody"].finish()
    assert code == 1
    assert any(line.startswith("waiting ") for line in lines)
    assert errors.startswith("tinker-actors demo: ")
    assert "Connection refused. Check the URL and that the server runs" in errors
    assert errors.count("\n") == 1
    assert not any(line.startswith("crash") for line in lines)
    assert "Traceback" not in errors


def test_a_killed_server_gives_one_error_with_what_waited(slow: dict[str, Running]) -> None:
    code, lines, errors = slow["killed"].finish()
    assert code == 1
    assert any(line.startswith("server    its process was killed by signal 9") for line in lines)
    first, *waiting = errors.strip().splitlines()
    assert first.startswith("tinker-actors demo: ")
    assert re.search(r"no usable answer for \d\d s", first)  # 10 and a little
    assert any("forward_backward" in line for line in waiting)
    assert any("optim_step" in line for line in waiting)
    assert "Traceback" not in errors
    assert lines[-2].startswith("kept ")


def test_a_failed_check_is_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, with a server's records from which one entry has been taken."""
    true_applied = ServerRecords.applied

    async def applied(self: ServerRecords, model_id: str) -> tuple[str, ...] | None:
        found = await true_applied(self, model_id)
        assert found is not None
        return found[1:]

    monkeypatch.setattr(ServerRecords, "applied", applied)
    monkeypatch.setattr(story, "_HELD_OUT", 5)
    assert run_demo(DemoOptions(steps=1, run_dir=tmp_path, faults=False)) == 1
    assert (
        "FAILED  every accepted operation was applied exactly once, in order (3 accepted, 2 applied, 1 missing)"
        in (capsys.readouterr().out)
    )
