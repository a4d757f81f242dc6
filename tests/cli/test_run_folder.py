"""The run folder: made, taken over, refused; each step once; the log apart from the terminal."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from tinker_actors.cli.run_folder import MetricsRow, open_run_folder
from tinker_actors.errors import InvalidInput


def _row(step: int) -> MetricsRow:
    return MetricsRow(step=step, loss=1.5, learning_rate=0.1, tokens=9, tokens_per_s=3.0, time=0.5)


def _steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_without_a_path_each_run_gets_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths: list[Path] = []
    for _ in range(3):
        with open_run_folder(None, seed=0, steps=3, faults=True) as folder:
            paths.append(folder.path)
    assert len(set(paths)) == 3
    assert all(path.parent == Path("runs") and path.is_dir() for path in paths)


def test_rows_are_readable_as_soon_as_they_are_recorded(tmp_path: Path) -> None:
    with open_run_folder(tmp_path, seed=0, steps=3, faults=True) as folder:
        folder.record(_row(1))
        folder.record(_row(2))
        assert _steps(tmp_path) == [1, 2]
        for wrong in (2, 4):
            with pytest.raises(AssertionError, match=f"step {wrong} recorded after 2"):
                folder.record(_row(wrong))
    assert _steps(tmp_path) == [1, 2]


def test_an_earlier_runs_folder_is_taken_over_from_the_start(tmp_path: Path) -> None:
    with open_run_folder(tmp_path / "run", seed=0, steps=3, faults=True) as folder:
        folder.record(_row(1))
        folder.chart_path.write_text("old")
    with open_run_folder(tmp_path / "run", seed=0, steps=3, faults=True) as folder:
        assert not folder.chart_path.exists()
        folder.record(_row(1))
    assert _steps(tmp_path / "run") == [1]


@pytest.mark.parametrize("content", [None, b"{}", b"not json", b'{"program": "another"}'])
def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    (tmp_path / "metrics.jsonl").write_text("precious")
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    before = sorted(tmp_path.iterdir())
    with (
        pytest.raises(InvalidInput, match=r"--run-dir: .* holds files that are not a demo's\. Give an empty folder"),
        open_run_folder(tmp_path, seed=0, steps=3, faults=True),
    ):
        pass
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "metrics.jsonl").read_text() == "precious"


def test_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(InvalidInput, match="is a file"), open_run_folder(path, seed=0, steps=3, faults=True):
        pass


def test_a_folder_that_cant_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InvalidInput, match=r"--run-dir: can't be written"),
        open_run_folder(tmp_path / "file" / "run", seed=0, steps=3, faults=True),
    ):
        pass


def test_logging_goes_into_the_folder_and_stops_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("tinker_actors.somewhere")
    level = logging.getLogger().level
    with open_run_folder(tmp_path, seed=0, steps=3, faults=True) as folder:
        log.info("within")
    log.info("after")
    assert logging.getLogger().level == level
    text = folder.log_path.read_text()
    assert "INFO    tinker_actors.somewhere: within" in text
    assert "after" not in text
    assert capsys.readouterr() == ("", "")
