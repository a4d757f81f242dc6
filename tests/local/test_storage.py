from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from tinker_actors.local.owners import UNOWNED, Owner
from tinker_actors.local.storage import CheckpointRecord, DirectoryStorage, RunRecord, SessionRecord
from tinker_actors.types import FinishReason, LoraConfig, SessionActive, SessionClientFinished

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
VERSION_1 = """
CREATE TABLE sessions (
    number INTEGER PRIMARY KEY, session_id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
    tags TEXT NOT NULL, user_metadata TEXT NOT NULL
);
CREATE TABLE runs (
    number INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, session_id TEXT NOT NULL, base_model TEXT NOT NULL,
    lora TEXT NOT NULL, created_at TEXT NOT NULL, user_metadata TEXT NOT NULL
);
CREATE TABLE checkpoints (
    number INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, run_id TEXT NOT NULL, kind TEXT NOT NULL,
    name TEXT NOT NULL, base_model TEXT NOT NULL, lora TEXT NOT NULL, size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL, created_at TEXT NOT NULL, expires_at TEXT, user_metadata TEXT NOT NULL,
    file TEXT NOT NULL
);
INSERT INTO sessions VALUES (1, 's', '2026-11-29T12:00:00Z', '["a"]', '{"b":"c"}');
INSERT INTO runs VALUES (1, 's:train:0', 's', 'base', '{"rank":2}', '2026-11-29T12:00:00Z', '{}');
INSERT INTO checkpoints VALUES (
    1, 'tinker://s:train:0/weights/n', 's:train:0', 'weights', 'n', 'base', '{"rank":2}', 3, 'x',
    '2026-11-29T12:00:00Z', NULL, '{}', 'f'
);
PRAGMA user_version = 1;
"""


@pytest.fixture
def storage(tmp_path: Path) -> Generator[DirectoryStorage]:
    with closing(DirectoryStorage(tmp_path)) as opened:
        yield opened


def test_a_directory_of_version_1_is_read_and_written_on(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "server.sqlite3")) as database:
        database.executescript(VERSION_1)
    with closing(DirectoryStorage(tmp_path)) as storage:
        (session,) = storage.sessions()
        assert (session.session_id, session.tags, session.user_metadata) == ("s", ("a",), {"b": "c"})
        assert session.owner == UNOWNED
        assert (session.project_id, session.display_name, session.status) == (None, None, SessionActive())
        (run,) = storage.runs()
        assert (run.lora.rank, run.project_id, run.copied_from) == (2, None, None)
        (checkpoint,) = storage.checkpoints()
        assert (checkpoint.created_at, checkpoint.public) == (NOON, False)
        storage.amend(msgspec.structs.replace(checkpoint, public=True))
    with closing(DirectoryStorage(tmp_path)) as storage:
        assert storage.checkpoints()[0].public is True


def test_a_changed_session_keeps_its_place(storage: DirectoryStorage) -> None:
    first, second = (
        SessionRecord(session_id=name, owner=Owner("o"), created_at=NOON, tags=(), user_metadata={})
        for name in ("first", "second")
    )
    storage.add_session(first)
    storage.add_session(second)
    finished = SessionClientFinished(reason=FinishReason(type="errored"), detail="why")
    changed = msgspec.structs.replace(first, project_id="p", display_name="a name", status=finished)
    storage.add_session(changed)
    assert storage.sessions() == (changed, second)


def test_an_amended_checkpoint_keeps_its_weights(storage: DirectoryStorage) -> None:
    run = RunRecord(
        run_id="s:train:0",
        session_id="s",
        owner=Owner("o"),
        base_model="base",
        lora=LoraConfig(),
        created_at=NOON,
        user_metadata={},
    )
    storage.add_run(run)
    record = CheckpointRecord(
        path="tinker://s:train:0/weights/n",
        run_id=run.run_id,
        owner=run.owner,
        kind="weights",
        name="n",
        base_model="base",
        lora=run.lora,
        size_bytes=3,
        sha256="ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        created_at=NOON,
        expires_at=None,
        user_metadata={},
    )
    with pytest.raises(FileNotFoundError, match="no row"):
        storage.amend(record)
    storage.put(record, b"abc")
    amended = msgspec.structs.replace(record, expires_at=NOON, public=True)
    storage.amend(amended)
    assert storage.checkpoints() == (amended,)
    assert storage.read(amended) == b"abc"
