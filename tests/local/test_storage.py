from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from tinker_actors.errors import InvalidInput
from tinker_actors.local.owners import Owner
from tinker_actors.local.storage import CheckpointRecord, DirectoryStorage, RunRecord, SessionRecord
from tinker_actors.types import FinishReason, LoraConfig, SessionClientFinished

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture
def storage(tmp_path: Path) -> Generator[DirectoryStorage]:
    with closing(DirectoryStorage(tmp_path)) as opened:
        yield opened


@pytest.mark.parametrize("version", [1, 99])
def test_a_directory_of_another_version_is_refused_and_left_as_it_is(tmp_path: Path, version: int) -> None:
    with closing(sqlite3.connect(tmp_path / "server.sqlite3")) as database:
        database.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(InvalidInput, match="another version"):
        DirectoryStorage(tmp_path)
    with closing(sqlite3.connect(tmp_path / "server.sqlite3")) as database:
        assert database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


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
