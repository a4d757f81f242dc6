"""The resume record: what a job needs to go on in another process, in one small file that is replaced as a whole."""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec
import numpy as np

from tinker_actors.errors import JobError
from tinker_actors.sessions import SavedCheckpoint
from tinker_actors.version import __version__

__all__ = [
    "HIDDEN",
    "JobConfig",
    "JobStatus",
    "ResumePoint",
    "ResumeRecord",
    "decode_record",
    "encode_record",
    "how_far",
    "program_command",
    "without_keys",
    "versions",
]

JobStatus: TypeAlias = Literal["running", "stopped", "failed", "done"]

_FORMAT = 1
_KEY = re.compile(r"(?:tml-|eyJ)[^\s'\"]+")
HIDDEN: Final = "[hidden]"


class JobConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a job can't change on its way."""

    base_model: str
    rank: int
    seed: int
    train_mlp: bool = True
    train_attn: bool = True
    train_unembed: bool = True
    updates_per_step: int = 1


class ResumePoint(msgspec.Struct, frozen=True, kw_only=True):
    """A place to go on from: after ``step``, whose weights and optimizer are in ``checkpoint``.

    ``op_no`` counts the training operations up to there, discarded ones not; ``metrics_offset`` is the length of
    metrics.jsonl with the rows up to there, the last of which is that of ``metrics_step``. ``states`` are what the
    program tracks, by name, ``sampling`` the state of what draws seeds for samples.
    """

    checkpoint: str
    op_no: int
    step: int
    metrics_step: int
    metrics_offset: int
    states: dict[str, Any]
    sampling: Any = None


class ResumeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One job, as record.json in its folder. ``total`` is how many steps it is to have; None: nobody has said.

    ``earlier`` are points before ``point``, the oldest first, whose checkpoints are kept still. ``checkpoints`` are
    all that are kept, ``strays`` paths of some that were given up and may be there, ``scores`` what is known of each
    kept one, by which a recovery chooses the best.
    """

    name: str
    config: JobConfig
    total: int | None = None
    status: JobStatus = "running"
    reason: str = ""
    starts: int = 0
    point: ResumePoint | None = None
    earlier: tuple[ResumePoint, ...] = ()
    checkpoints: tuple[SavedCheckpoint, ...] = ()
    strays: tuple[str, ...] = ()
    scores: dict[str, dict[str, float]] = {}
    command: tuple[str, ...] = ()
    directory: str = ""
    base_url: str = ""
    versions: dict[str, str] = {}
    written: str = ""
    format: int = _FORMAT

    @property
    def step(self) -> int:
        """How many steps are safe."""
        return 0 if self.point is None else self.point.step


def how_far(step: int, total: int | None) -> str:
    """``step`` among how many, in words; a program may have come back with fewer than were done."""
    if total is None:
        return str(step)
    return f"{step} of {total}" if step <= total else f"{step}, and {total} are asked for"


def encode_record(record: ResumeRecord) -> bytes:
    """As it stands in the file."""
    # not msgspec's own JSON: states of generators hold numbers of 128 bits
    return json.dumps(msgspec.to_builtins(record), separators=(",", ":")).encode() + b"\n"


def decode_record(data: bytes, path: Path) -> ResumeRecord:
    """What stands in the file ``path``. Raises JobError for what is no record, or one of another version."""
    cure = f"Restore the file, or remove the folder {path.parent} to begin the job anew"
    try:
        value: Any = json.loads(data)
        version = value["format"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise JobError(f"{path} is no resume record. {cure}") from None
    if version != _FORMAT:
        raise JobError(
            f"{path} is a resume record of format {version!r}, and this version reads {_FORMAT}. "
            "Use the version that has written it"
        )
    try:
        return msgspec.convert(value, ResumeRecord)
    except msgspec.ValidationError as error:
        raise JobError(f"{path} is no resume record ({error}). {cure}") from None


def program_command() -> tuple[str, ...]:
    """What started this program, without keys; empty for one that no command line starts again."""
    if len(sys.orig_argv) < 2 or hasattr(sys, "ps1"):
        return ()
    return tuple(without_keys(part) for part in (sys.executable, *sys.orig_argv[1:]))


def without_keys(text: str) -> str:
    """``text`` with whatever looks like a key hidden."""
    return _KEY.sub(HIDDEN, text)


def versions() -> dict[str, str]:
    """What the program runs with, for people who look for a difference."""
    return {"tinker-actors": __version__, "python": platform.python_version(), "numpy": np.__version__}
