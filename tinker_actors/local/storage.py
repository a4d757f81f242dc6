"""Where runs and checkpoints are kept: in memory, or in a directory as SQLite rows and safetensors files.

Everything here blocks and is called through the Offload port. In a directory a checkpoint's file is written,
synced and renamed before its row is, so a row never names a file that is not whole; what a kill leaves without a
row is removed at the next start.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import threading
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, final

import msgspec

from tinker_actors.errors import InvalidInput
from tinker_actors.local.owners import Owner
from tinker_actors.types import CheckpointKind, LoraConfig, SessionActive, SessionStatus

__all__ = [
    "CheckpointRecord",
    "DamagedCheckpoint",
    "DirectoryStorage",
    "MemoryStorage",
    "RunRecord",
    "SessionRecord",
    "Storage",
]


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A session that is or once was. ``status`` "active" of an earlier process means that nobody ended it."""

    session_id: str
    owner: Owner
    created_at: datetime
    tags: tuple[str, ...]
    user_metadata: Mapping[str, str]
    project_id: str | None = None
    display_name: str | None = None
    status: SessionStatus = SessionActive()


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A training run: one model, by its id. One with ``copied_from`` only holds a copy of that checkpoint."""

    run_id: str
    session_id: str
    owner: Owner
    base_model: str
    lora: LoraConfig
    created_at: datetime
    user_metadata: Mapping[str, str]
    project_id: str | None = None
    copied_from: str | None = None


class CheckpointRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint without its weights. ``sha256`` and ``size_bytes`` are those of its safetensors bytes."""

    path: str
    run_id: str
    owner: Owner
    kind: CheckpointKind
    name: str
    base_model: str
    lora: LoraConfig
    size_bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime | None
    user_metadata: Mapping[str, str]
    public: bool = False


class DamagedCheckpoint(Exception):
    """The bytes of a checkpoint are missing or not those that were saved."""


class Storage(Protocol):
    """Keeps records and weights. Every method may block, and raise OSError when the disk is full or broken.

    ``put`` and ``remove`` are atomic.
    """

    def sessions(self) -> tuple[SessionRecord, ...]:
        """Every session, oldest first."""
        ...

    def runs(self) -> tuple[RunRecord, ...]:
        """Every run, oldest first."""
        ...

    def checkpoints(self) -> tuple[CheckpointRecord, ...]:
        """Every checkpoint, oldest first."""
        ...

    def add_session(self, record: SessionRecord) -> None:
        """Keep a session, in place of the one of the same id."""
        ...

    def add_run(self, record: RunRecord) -> None:
        """Keep a new run."""
        ...

    def put(self, record: CheckpointRecord, data: bytes) -> None:
        """Keep a checkpoint, in place of one of the same path."""
        ...

    def amend(self, record: CheckpointRecord) -> None:
        """Keep ``record`` in place of the one of the same path, whose weights stay."""
        ...

    def read(self, record: CheckpointRecord) -> bytes:
        """Its bytes. Raises DamagedCheckpoint."""
        ...

    def remove(self, path: str) -> None:
        """Forget a checkpoint."""
        ...

    def revoke_key(self, digest: str) -> None:
        """Keep that the key of this digest was revoked."""
        ...

    def revoked_keys(self) -> tuple[str, ...]:
        """The digests of all keys that were revoked."""
        ...

    def close(self) -> None:
        """Give everything up."""
        ...


@final
class MemoryStorage:
    """Ends with the process."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}

    def sessions(self) -> tuple[SessionRecord, ...]:
        """None: nothing is from before."""
        return ()

    def runs(self) -> tuple[RunRecord, ...]:
        """None: nothing is from before."""
        return ()

    def checkpoints(self) -> tuple[CheckpointRecord, ...]:
        """None: nothing is from before."""
        return ()

    def add_session(self, record: SessionRecord) -> None:
        """The service's own tables know it."""

    def add_run(self, record: RunRecord) -> None:
        """The service's own tables know it."""

    def put(self, record: CheckpointRecord, data: bytes) -> None:
        """Keep the bytes."""
        self._data[record.path] = data

    def amend(self, record: CheckpointRecord) -> None:
        """The service's own tables know it."""

    def read(self, record: CheckpointRecord) -> bytes:
        """The bytes."""
        return self._data[record.path]

    def remove(self, path: str) -> None:
        """Drop the bytes."""
        del self._data[path]

    def revoke_key(self, digest: str) -> None:
        """The service's own tables know it."""

    def revoked_keys(self) -> tuple[str, ...]:
        """None: nothing is from before."""
        return ()

    def close(self) -> None:
        """Drop everything."""
        self._data.clear()


_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    number INTEGER PRIMARY KEY, session_id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, created_at TEXT NOT NULL,
    tags TEXT NOT NULL, user_metadata TEXT NOT NULL, project_id TEXT, display_name TEXT, status TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, session_id TEXT NOT NULL, owner TEXT NOT NULL,
    base_model TEXT NOT NULL, lora TEXT NOT NULL, created_at TEXT NOT NULL, user_metadata TEXT NOT NULL,
    project_id TEXT, copied_from TEXT
);
CREATE TABLE IF NOT EXISTS checkpoints (
    number INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, run_id TEXT NOT NULL, owner TEXT NOT NULL,
    kind TEXT NOT NULL, name TEXT NOT NULL, base_model TEXT NOT NULL, lora TEXT NOT NULL, size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL, created_at TEXT NOT NULL, expires_at TEXT, user_metadata TEXT NOT NULL,
    file TEXT NOT NULL, public TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS revoked_keys (digest TEXT PRIMARY KEY);
CREATE INDEX IF NOT EXISTS checkpoints_of_run ON checkpoints (run_id);
"""
_VERSION = 2
_KEYS = {"sessions": "session_id", "runs": "run_id", "checkpoints": "path"}
_JSON_COLUMNS = frozenset({"lora", "public", "status", "tags", "user_metadata"})


@final
class DirectoryStorage:
    """``server.sqlite3`` and ``checkpoints/<run>/<kind>/*.safetensors`` below one directory, held by one process.

    Raises InvalidInput when another server holds the directory, when another version has written it and when its
    database can't be read.
    """

    def __init__(self, directory: Path) -> None:
        self._files = directory / "checkpoints"
        self._files.mkdir(parents=True, exist_ok=True)
        self._lock_file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()
        try:
            try:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InvalidInput(
                    "directory", f"{directory} is in use by another server", "Stop that one, or use another directory"
                ) from None
            self._database = sqlite3.connect(directory / "server.sqlite3", check_same_thread=False)
        except BaseException:
            os.close(self._lock_file)
            raise
        try:
            self._prepare(directory)
        except sqlite3.Error as error:
            self.close()
            problem = f"the database in {directory} can't be used ({error})"
            raise InvalidInput("directory", problem, "Make room or restore it, or use another directory") from error
        except BaseException:
            self.close()
            raise

    def _prepare(self, directory: Path) -> None:
        self._database.row_factory = sqlite3.Row
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        version: int = self._database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            problem = f"{directory} was written by another version of tinker-actors"
            raise InvalidInput("directory", problem, "Use that version, or another directory")
        self._database.executescript(_SCHEMA)
        self._database.execute(f"PRAGMA user_version={_VERSION}")
        self._database.commit()
        rows = self._database.execute("SELECT file FROM checkpoints").fetchall()
        known = {self._files / row["file"] for row in rows}
        for path in self._files.rglob("*"):
            if path.is_file() and path not in known:
                path.unlink()

    def sessions(self) -> tuple[SessionRecord, ...]:
        """Every session of this directory."""
        return tuple(msgspec.convert(row, SessionRecord) for row in self._rows("sessions"))

    def runs(self) -> tuple[RunRecord, ...]:
        """Every run of this directory."""
        return tuple(msgspec.convert(row, RunRecord) for row in self._rows("runs"))

    def checkpoints(self) -> tuple[CheckpointRecord, ...]:
        """Every checkpoint of this directory."""
        return tuple(msgspec.convert(row, CheckpointRecord) for row in self._rows("checkpoints"))

    def add_session(self, record: SessionRecord) -> None:
        """Insert its row, or change it."""
        self._insert("sessions", record)

    def add_run(self, record: RunRecord) -> None:
        """Insert its row."""
        self._insert("runs", record)

    def put(self, record: CheckpointRecord, data: bytes) -> None:
        """Write, sync and rename the file, then its row; then drop the file that it replaces."""
        folder = self._files / record.run_id.replace(":", "_") / record.kind
        _make_synced(folder)
        # named by content: an overwritten checkpoint's old file stays whole until the new row is there
        target = folder / f"{record.name}.{record.sha256[:16]}.safetensors"
        _write_synced(target, data)
        old = self._file_of(record.path)
        try:
            self._insert("checkpoints", record, file=str(target.relative_to(self._files)))
        except OSError:
            if old != target:
                target.unlink(missing_ok=True)
            raise
        if old is not None and old != target:
            old.unlink(missing_ok=True)

    def amend(self, record: CheckpointRecord) -> None:
        """Change its row; the file stays."""
        file = self._file_of(record.path)
        if file is None:
            raise FileNotFoundError(f"{record.path} has no row any more")
        self._insert("checkpoints", record, file=str(file.relative_to(self._files)))

    def read(self, record: CheckpointRecord) -> bytes:
        """Read the file and check its digest."""
        file = self._file_of(record.path)
        try:
            if file is None:
                raise DamagedCheckpoint(f"{record.path} has no row any more")
            data = file.read_bytes()
        except OSError as error:
            raise DamagedCheckpoint(f"{record.path} can't be read: {error}") from error
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise DamagedCheckpoint(f"the file of {record.path} is not what was saved")
        return data

    def remove(self, path: str) -> None:
        """Delete the row, then the file."""
        file = self._file_of(path)
        with self._transaction() as database:
            database.execute("DELETE FROM checkpoints WHERE path = ?", (path,))
        if file is not None:
            file.unlink(missing_ok=True)

    def revoke_key(self, digest: str) -> None:
        """Insert its row, unless it is there."""
        with self._transaction() as database:
            database.execute("INSERT OR IGNORE INTO revoked_keys VALUES (?)", (digest,))

    def revoked_keys(self) -> tuple[str, ...]:
        """Every digest of this directory."""
        with self._lock, closing(self._database.execute("SELECT digest FROM revoked_keys")) as cursor:
            return tuple(row["digest"] for row in cursor.fetchall())

    def close(self) -> None:
        """Close the database and let go of the directory."""
        self._database.close()
        os.close(self._lock_file)

    def _rows(self, table: str) -> list[dict[str, Any]]:
        with self._lock, closing(self._database.execute(f"SELECT * FROM {table} ORDER BY number")) as cursor:  # noqa: S608
            rows: list[sqlite3.Row] = cursor.fetchall()
        return [
            {key: msgspec.json.decode(row[key]) if key in _JSON_COLUMNS else row[key] for key in row.keys()}  # noqa: SIM118
            for row in rows
        ]

    def _insert(self, table: str, record: msgspec.Struct, **more: str) -> None:
        values: dict[str, Any] = msgspec.to_builtins(record) | more
        row = {
            key: msgspec.json.encode(value).decode() if key in _JSON_COLUMNS else value
            for key, value in values.items()
        }
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        changes = ", ".join(f"{column} = excluded.{column}" for column in row)
        with self._transaction() as database:
            # an update, not a replacement: the row keeps its number, by which listings are in order
            database.execute(
                f"INSERT INTO {table} ({columns}) VALUES ({marks}) ON CONFLICT ({_KEYS[table]}) DO UPDATE SET {changes}",  # noqa: S608, E501  # names of ours
                tuple(row.values()),
            )

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        try:
            with self._lock, self._database as database:
                yield database
        except sqlite3.Error as error:
            raise OSError(f"{type(error).__name__}: {error}") from error

    def _file_of(self, path: str) -> Path | None:
        with self._transaction() as database:
            row = database.execute("SELECT file FROM checkpoints WHERE path = ?", (path,)).fetchone()
        return None if row is None else self._files / row["file"]


def _write_synced(target: Path, data: bytes) -> None:
    draft = target.with_suffix(".draft")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    _sync(target.parent)


def _make_synced(folder: Path) -> None:
    """Make ``folder`` and what is missing above it, so that no power failure takes it from under its files."""
    if not folder.is_dir():
        _make_synced(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
