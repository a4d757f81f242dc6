"""A process that is killed at each line of the storage in turn: ``python -m tests.local.killed_storage FOLDER``.

Each child begins with one checkpoint that was acknowledged, then saves another, overwrites the first and removes one.
It says in a pipe what it has acknowledged, and kills itself at its n-th line of storage.py. The parent opens the same
directory then, as a server's next start does, and looks. It prints how many lines there were.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from tinker_actors.local import storage
from tinker_actors.local.owners import Owner
from tinker_actors.local.storage import CheckpointRecord, DirectoryStorage
from tinker_actors.types import LoraConfig

STEPS = (("put", "kept", b"first"), ("put", "new", b"second"), ("put", "kept", b"third"), ("remove", "new", b""))


def record(name: str, data: bytes) -> CheckpointRecord:
    import hashlib

    return CheckpointRecord(
        path=f"tinker://run/weights/{name}",
        run_id="run",
        owner=Owner("o"),
        kind="weights",
        name=name,
        base_model="b",
        lora=LoraConfig(rank=2),
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        expires_at=None,
        user_metadata={},
    )


def work(directory: Path, told: int, last: int) -> None:
    """Do the steps, telling each; killed at the line ``last``, if there are so many."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != storage.__file__ or frame.f_code.co_name.startswith("<"):
            return None
        if event == "line":
            lines += 1
            if lines == last:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    kept = DirectoryStorage(directory)
    sys.settrace(trace)
    for number, (kind, name, data) in enumerate(STEPS):
        if kind == "put":
            kept.put(record(name, data), data)
        else:
            kept.remove(record(name, data).path)
        os.write(told, bytes([number]))
    sys.settrace(None)
    os._exit(0)


def expected(steps: int) -> dict[str, bytes]:
    """The checkpoints after so many steps."""
    found: dict[str, bytes] = {}
    for kind, name, data in STEPS[:steps]:
        if kind == "put":
            found[name] = data
        else:
            del found[name]
    return found


def look(directory: Path, acknowledged: int) -> None:
    """The directory holds what was acknowledged, and at most the step after it, whole."""
    kept = DirectoryStorage(directory)
    try:
        records = kept.checkpoints()
        found = {entry.name: kept.read(entry) for entry in records}
    finally:
        kept.close()
    assert found in (expected(acknowledged), expected(acknowledged + 1)), (acknowledged, found)
    with sqlite3.connect(directory / "server.sqlite3") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        named = {row[0] for row in database.execute("SELECT file FROM checkpoints")}
    files = {str(path.relative_to(directory / "checkpoints")) for path in (directory / "checkpoints").rglob("*.*")}
    assert files == named, (files, named)


def main(folder: Path) -> int:
    last = 0
    while True:
        last += 1
        directory = folder / "state"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        heard, told = os.pipe()
        child = os.fork()
        if child == 0:
            work(directory, told, last)
        os.close(told)
        with os.fdopen(heard, "rb") as pipe:
            acknowledged = len(pipe.read())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL), status
        look(directory, acknowledged)
        if status == 0:
            assert acknowledged == len(STEPS)
            return last


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
