"""``tinker-actors job``: what there is, what is wrong with a name, and what can't be resumed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tinker_actors.cli.arguments import JobCommand, parse
from tinker_actors.cli.main import main
from tinker_actors.metrics import ModelUsage
from tinker_actors.recovery.jobs import JobConfig, ResumePoint, ResumeRecord
from tinker_actors.recovery.jobs.record import encode_record, program_command, without_keys

POINT = ResumePoint(
    checkpoint="tinker://r/weights/a",
    op_no=9,
    step=4,
    metrics_step=4,
    metrics_offset=20,
    states={"job.rng": [1 << 100]},
)
RECORD = ResumeRecord(
    name="one",
    config=JobConfig(base_model="some/model", rank=8, seed=3),
    total=10,
    status="stopped",
    reason="Ctrl-C",
    starts=2,
    point=POINT,
    earlier=(msgspec.structs.replace(POINT, checkpoint="tinker://r/weights/b", step=2),),
    command=("python", "train.py"),
    directory="/",
    base_url="http://server",
    written="2026-01-02T03:04:05+00:00",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, RECORD)
    usage = {"some/model": ModelUsage(trained=1234)}
    (tmp_path / "one" / "usage.json").write_bytes(msgspec.json.encode(usage))
    (tmp_path / "one" / "metrics.jsonl").write_text('{"step":3}\n{"step":4,"loss":0.5}\n{"step":5,"lo')
    write(tmp_path, msgspec.structs.replace(RECORD, name="two", status="running", reason="", point=None, total=None))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "record.json").write_text("?")
    (tmp_path / "notes.txt").write_text("no job")
    return tmp_path


def write(folder: Path, record: ResumeRecord) -> None:
    (folder / record.name).mkdir(exist_ok=True)
    (folder / record.name / "record.json").write_bytes(encode_record(record))


def test_every_option_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TINKER_ACTORS_JOBS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert parse(["job", "list"]) == JobCommand(verb="list", folder=tmp_path / "jobs")
    monkeypatch.setenv("TINKER_ACTORS_JOBS", "/elsewhere")
    assert parse(["job", "show", "a", "--json"]) == JobCommand(
        verb="show", folder=Path("/elsewhere"), name="a", json=True
    )
    assert parse(["job", "resume", "a", "--folder", "/x"]) == JobCommand(verb="resume", folder=Path("/x"), name="a")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("job", "list|show|resume"),
        ("job stop one", "invalid choice: 'stop'"),
        ("job show", "NAME"),
        ("job show a/b", "can't name a job"),
        ("job list --what", "unrecognized arguments: --what"),
        ("job resume one --json", "unrecognized arguments: --json"),
    ],
)
def test_a_wrong_line_is_named(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(line.split())
    assert left.value.code == 2
    assert words in capsys.readouterr().err


def test_a_list_says_how_far_each_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job", "list", "--folder", str(folder)]) == 0
    head, bad, one, two = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "STATE", "STEP", "WRITTEN", "REASON"]
    assert bad.split()[:2] == ["bad", "damaged"]
    assert one.split() == ["one", "stopped", "4/10", "2026-01-02T03:04:05+00:00", "Ctrl-C"]
    assert two.split()[:3] == ["two", "died", "0"]
    write(folder, msgspec.structs.replace(RECORD, total=0, status="done"))
    assert main(["job", "list", "--folder", str(folder)]) == 0
    assert "done     4 (0 asked)" in capsys.readouterr().out
    write(folder, RECORD)
    assert main(["job", "list", "--folder", str(folder), "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["name"], one["state"], one["step"]) for one in told] == [("one", "stopped", 4), ("two", "died", 0)]


def test_one_that_can_not_be_read_hides_no_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "odd" / "record.json").mkdir(parents=True)
    assert main(["job", "list", "--folder", str(folder)]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert rows["odd"].split()[1] == "damaged"
    assert "record.json: can't be read: Is a directory" in rows["odd"]
    assert rows["one"].split()[1] == "stopped"
    assert main(["job", "show", "one", "--folder", str(folder)]) == 0
    assert main(["job", "show", "odd", "--folder", str(folder)]) == 1
    assert "Is a directory" in capsys.readouterr().err


def test_an_empty_folder_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job", "list", "--folder", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().out == f"there are no jobs in {tmp_path / 'none'}\n"


def test_one_is_shown_with_its_newest_whole_row(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job", "show", "one", "--folder", str(folder)]) == 0
    out = capsys.readouterr().out
    for words in (
        "stopped (Ctrl-C)",
        "tinker://r/weights/a",
        "tinker://r/weights/b (step 2)",
        "python train.py",
        "1,234 trained",
        "seed 3",
    ):
        assert words in out
    assert 'newest row    {"step": 4, "loss": 0.5}' in out
    assert main(["job", "show", "one", "--folder", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["row"] == {"step": 4, "loss": 0.5}
    assert told["point"] == {"checkpoint": "tinker://r/weights/a", "step": 4, "op_no": 9, "metrics_offset": 20}
    assert told["earlier"] == [told["point"] | {"checkpoint": "tinker://r/weights/b", "step": 2}]
    assert main(["job", "show", "two", "--folder", str(folder)]) == 0
    assert "none: it would begin anew" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        command = [sys.executable, "-m", "tinker_actors.cli", "job", "show", "one", "--folder", str(folder)]
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("name", "words", "code"),
    [
        ("ones", "there is no job 'ones' in {folder}. Did you mean one?", 2),
        ("xyz", "there is no job 'xyz' in {folder}. There are: bad, one, two", 2),
        ("bad", "is no resume record", 1),
    ],
)
def test_a_wrong_name_is_answered_with_what_there_is(
    name: str, words: str, code: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("show", "resume"):
        assert main(["job", verb, name, "--folder", str(folder)]) == code
        assert words.format(folder=folder) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"command": ()}, "was not begun by a command line"),
        ({"command": ("python", "train.py", "--key", "[hidden]")}, "held a key, which is not kept"),
        ({"directory": "/not/there"}, "was begun in /not/there, which can't be entered"),
        ({"command": ("/not/there", "x")}, "/not/there can't be run: No such file or directory"),
    ],
)
def test_what_can_not_be_resumed_says_why(
    change: dict[str, object],
    words: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)  # where it is left, whatever is entered
    write(folder, msgspec.structs.replace(RECORD, **change))
    assert main(["job", "resume", "one", "--folder", str(folder)]) == 1
    assert words in capsys.readouterr().err


def test_a_command_line_is_shown_as_a_shell_takes_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)  # where it is left, whatever is entered
    command = ("/not/there", "my program.py", "--name", "it's")
    write(folder, msgspec.structs.replace(RECORD, command=command))
    assert main(["job", "show", "one", "--folder", str(folder)]) == 0
    assert main(["job", "resume", "one", "--folder", str(folder)]) == 1
    shown, told = capsys.readouterr()
    for lines in (shown, told):
        (line,) = [line for line in lines.splitlines() if "my program.py" in line]
        assert tuple(shlex.split(line[line.index("/not/there") :])) == command


def test_a_key_of_the_command_line_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.orig_argv", ["python", "train.py", "--api-key=tml-secret", "tml-x"])
    command = program_command()
    assert command[1:] == ("train.py", "--api-key=[hidden]", "[hidden]")
    assert without_keys("http://u/?k=tml-abc") == "http://u/?k=[hidden]"
    monkeypatch.setattr("sys.orig_argv", ["python"])
    assert program_command() == ()
