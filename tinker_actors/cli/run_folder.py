"""The folder that a run leaves: metrics, log, loss curve."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO, final

import msgspec

from tinker_actors import __version__
from tinker_actors.errors import InvalidInput

__all__ = ["MetricsRow", "RunFolder", "open_run_folder"]

_MARK = "run.json"
_PROGRAM = "tinker-actors demo"


class MetricsRow(msgspec.Struct, frozen=True, kw_only=True):
    """One training step. ``loss`` is nats per answer token, ``time`` seconds since training began."""

    step: int
    loss: float
    learning_rate: float
    tokens: int
    tokens_per_s: float
    time: float


class _Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What run.json says: whose folder it is, and what the run was asked for."""

    program: str
    version: str
    seed: int
    steps: int
    faults: bool


@final
class RunFolder:
    """The files of one run. Made by ``open_run_folder``."""

    def __init__(self, path: Path, metrics: TextIO) -> None:
        self.path = path
        self._metrics = metrics
        self._rows: list[MetricsRow] = []

    @property
    def rows(self) -> tuple[MetricsRow, ...]:
        """The steps recorded so far."""
        return tuple(self._rows)

    @property
    def log_path(self) -> Path:
        """Where the log goes."""
        return self.path / "demo.log"

    @property
    def server_log_path(self) -> Path:
        """Where the server that the run starts writes what it has to say."""
        return self.path / "server.log"

    @property
    def chart_path(self) -> Path:
        """Where the loss curve goes."""
        return self.path / "loss.svg"

    def record(self, row: MetricsRow) -> None:
        """Append a step to metrics.jsonl. Steps come in order, each once; anything else is a bug and says so."""
        if row.step != len(self._rows) + 1:
            raise AssertionError(f"step {row.step} recorded after {len(self._rows)} steps")
        self._metrics.write(msgspec.json.encode(row).decode() + "\n")
        self._metrics.flush()
        self._rows.append(row)


@contextmanager
def open_run_folder(path: Path | None, *, seed: int, steps: int, faults: bool) -> Generator[RunFolder]:
    """Make the folder, or take over one that an earlier demo left; while it is open all logging goes into demo.log.

    None takes a new one under ``runs``. Raises InvalidInput when ``path`` is not a folder, holds other files than
    a demo's, or can't be written.
    """
    try:
        folder = _new_folder() if path is None else _claim(path)
        mark = _Mark(program=_PROGRAM, version=__version__, seed=seed, steps=steps, faults=faults)
        (folder / _MARK).write_bytes(msgspec.json.encode(mark) + b"\n")
        metrics = (folder / "metrics.jsonl").open("w", encoding="utf-8")
    except OSError as error:
        raise InvalidInput(
            "--run-dir", f"can't be written ({error})", "Give a folder that you may write to"
        ) from error
    with metrics:
        run = RunFolder(folder, metrics)
        with _logging_to(run.log_path):
            yield run


def _new_folder() -> Path:
    name = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    number = 1
    while True:
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def _claim(path: Path) -> Path:
    if path.exists() and not path.is_dir():
        raise InvalidInput("--run-dir", f"{path} is a file", "Give a folder, or one that does not exist yet")
    path.mkdir(parents=True, exist_ok=True)
    if not any(path.iterdir()):
        return path
    if not _made_by_a_demo(path / _MARK):
        raise InvalidInput(
            "--run-dir",
            f"{path} holds files that are not a demo's",
            "Give an empty folder, or one that does not exist yet",
        )
    for old in ("demo.log", "loss.svg", "metrics.jsonl", "server.log"):
        (path / old).unlink(missing_ok=True)
    return path


def _made_by_a_demo(mark: Path) -> bool:
    try:
        return msgspec.json.decode(mark.read_bytes(), type=_Mark).program == _PROGRAM
    except (OSError, msgspec.DecodeError):
        return False


@contextmanager
def _logging_to(path: Path) -> Generator[None]:
    root = logging.getLogger()
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    level = root.level
    root.addHandler(handler)
    root.setLevel(min(logging.INFO, level) if level else logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()
