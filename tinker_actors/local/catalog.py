"""The catalogue: every run and checkpoint this server knows, from this process and from earlier ones."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import final

from tinker_actors.local.clock import Now
from tinker_actors.local.owners import Owner, owns
from tinker_actors.local.storage import CheckpointRecord, RunRecord, SessionRecord, Storage
from tinker_actors.types import CheckpointKind, TinkerPath

__all__ = ["Catalog", "NameInUse", "NoSuchCheckpoint"]


class NameInUse(Exception):
    """There is a checkpoint of this path, and it was not to be overwritten."""


class NoSuchCheckpoint(Exception):
    """There is no checkpoint of this path, or no longer."""


@final
class Catalog:
    """An index in memory over a Storage. Methods that say so block; the others may be called on the event loop.

    What finds takes the owner who asks, and gives only what that one may see.

    The blocking ones change the index within the same work that changes the storage, so that both agree even
    when nobody waits for the work any more.
    """

    def __init__(self, storage: Storage, now: Now) -> None:
        self._storage = storage
        self._now = now
        self._changing = threading.Lock()
        self.on_expiring: Callable[[], None] = _nobody
        """Called, in any thread, when a checkpoint was given a time."""
        self._sessions = {record.session_id: record for record in storage.sessions()}
        self._runs = {record.run_id: record for record in storage.runs()}
        self._checkpoints = {record.path: record for record in storage.checkpoints()}

    def add_session(self, record: SessionRecord) -> None:
        """Keep a new session; blocks."""
        self._storage.add_session(record)
        self._sessions[record.session_id] = record

    def change_session(self, session_id: str, change: Callable[[SessionRecord], SessionRecord]) -> SessionRecord:
        """Keep what ``change`` makes of a session; blocks."""
        record = change(self._sessions[session_id])
        self.add_session(record)
        return record

    def revoke_key(self, digest: str) -> None:
        """Remember that the key of this digest was revoked; blocks."""
        self._storage.revoke_key(digest)

    def revoked_keys(self) -> tuple[str, ...]:
        """The digests of all keys that were revoked; blocks."""
        return self._storage.revoked_keys()

    def add_run(self, record: RunRecord) -> None:
        """Keep a new run; blocks."""
        self._storage.add_run(record)
        self._runs[record.run_id] = record

    def save(
        self,
        run: RunRecord,
        kind: CheckpointKind,
        name: str,
        data: bytes,
        *,
        overwrite: bool,
        ttl_seconds: int | None,
        user_metadata: Mapping[str, str],
    ) -> CheckpointRecord:
        """Keep ``data``; blocks. Raises NameInUse and OSError, and then nothing has changed."""
        path = str(TinkerPath(run.run_id, kind, name))
        if self._living(path) is not None and not overwrite:
            raise NameInUse(path)
        created_at = self._now()
        record = CheckpointRecord(
            path=path,
            run_id=run.run_id,
            owner=run.owner,
            kind=kind,
            name=name,
            base_model=run.base_model,
            lora=run.lora,
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            created_at=created_at,
            expires_at=created_at + timedelta(seconds=ttl_seconds) if ttl_seconds is not None else None,
            user_metadata=dict(user_metadata),
        )
        with self._changing:
            self._storage.put(record, data)
            self._checkpoints[path] = record
        if record.expires_at is not None:
            self.on_expiring()
        return record

    def read(self, record: CheckpointRecord) -> bytes:
        """Its safetensors bytes; blocks. Raises DamagedCheckpoint."""
        return self._storage.read(record)

    def copy(self, record: CheckpointRecord, run: RunRecord, ttl_seconds: int | None) -> CheckpointRecord:
        """Keep a copy of a checkpoint under the new run ``run``; blocks. Raises DamagedCheckpoint and OSError."""
        data = self.read(record)
        self.add_run(run)
        return self.save(
            run,
            record.kind,
            record.name,
            data,
            overwrite=True,
            ttl_seconds=ttl_seconds,
            user_metadata=record.user_metadata,
        )

    def change(
        self, owner: Owner, path: str, change: Callable[[CheckpointRecord], CheckpointRecord]
    ) -> CheckpointRecord:
        """Keep what ``change`` makes of the owner's checkpoint, whose weights stay; blocks.

        Raises NoSuchCheckpoint, OSError and whatever ``change`` raises, and then nothing has changed.
        """
        with self._changing:
            record = change(self._existing(owner, path))
            self._storage.amend(record)
            self._checkpoints[path] = record
        if record.expires_at is not None:
            self.on_expiring()
        return record

    def remove(self, owner: Owner, path: str) -> None:
        """Delete the owner's checkpoint; blocks.

        Raises NoSuchCheckpoint and OSError, and then nothing has changed.
        """
        with self._changing:
            self._existing(owner, path)
            self._storage.remove(path)
            self._checkpoints.pop(path, None)

    def next_expiry(self) -> datetime | None:
        """When the next checkpoint's time is over, or was; None when all are kept for good."""
        times = (record.expires_at for record in tuple(self._checkpoints.values()))
        return min((time for time in times if time is not None), default=None)

    def remove_expired(self) -> None:
        """Delete the checkpoints whose time is over; blocks. Raises OSError, and then some may be left."""
        for path, record in tuple(self._checkpoints.items()):
            with self._changing:
                if self._checkpoints.get(path) is record and not self._alive(record):
                    self._storage.remove(path)
                    self._checkpoints.pop(path, None)

    def close(self) -> None:
        """Close the storage; blocks."""
        self._storage.close()

    def knows_session(self, session_id: str) -> bool:
        """Whether there ever was a session of this id, whosever it was."""
        return session_id in self._sessions

    def session(self, owner: Owner, session_id: str) -> SessionRecord | None:
        """What is kept of the owner's session of this id."""
        record = self._sessions.get(session_id)
        return record if record is not None and owns(owner, record.owner) else None

    def run(self, owner: Owner, run_id: str) -> RunRecord | None:
        """What is kept of the owner's run of this id."""
        record = self._runs.get(run_id)
        return record if record is not None and owns(owner, record.owner) else None

    def find(self, owner: Owner, path: str) -> CheckpointRecord | None:
        """The owner's checkpoint of this path, unless its time is over: for what changes it or tells of it."""
        record = self._living(path)
        return record if record is not None and owns(owner, record.owner) else None

    def readable(self, owner: Owner, path: str, access: Owner | None = None) -> CheckpointRecord | None:
        """The checkpoint of this path, unless its time is over, if ``owner`` may read its weights.

        That is who owns it, everybody while it is published, and who shows a key of its owner's: ``access`` is the
        owner of the request's ``weights_access_token`` (``Owners.of_token``, WIRE 2.4).
        """
        record = self._living(path)
        return record if record is not None and _may_read(owner, record, access) else None

    def whosever(self, path: str) -> CheckpointRecord | None:
        """The checkpoint of this path, unless its time is over: for who has proved that they may read it."""
        return self._living(path)

    def accessible_checkpoints(self, owner: Owner, run_id: str | None = None) -> tuple[CheckpointRecord, ...]:
        """As ``checkpoints``, with those that others have published (access_scope=accessible, WIRE 2.7)."""
        return tuple(record for record in self._of_run(run_id) if _may_read(owner, record, None))

    def accessible_runs(self, owner: Owner) -> tuple[RunRecord, ...]:
        """As ``runs``, with those that others have published a checkpoint of."""
        shown = {record.run_id for record in self.accessible_checkpoints(owner)}
        return tuple(
            record for record in tuple(self._runs.values()) if owns(owner, record.owner) or record.run_id in shown
        )

    def sessions(self, owner: Owner) -> tuple[SessionRecord, ...]:
        """Every session of the owner's, oldest first."""
        return tuple(record for record in tuple(self._sessions.values()) if owns(owner, record.owner))

    def runs(self, owner: Owner) -> tuple[RunRecord, ...]:
        """Every run of the owner's, oldest first."""
        return tuple(record for record in tuple(self._runs.values()) if owns(owner, record.owner))

    def checkpoints(self, owner: Owner, run_id: str | None = None) -> tuple[CheckpointRecord, ...]:
        """Every checkpoint of the owner's (of one run), oldest first, without those whose time is over."""
        return tuple(record for record in self._of_run(run_id) if owns(owner, record.owner))

    def _of_run(self, run_id: str | None) -> Iterator[CheckpointRecord]:
        for record in tuple(self._checkpoints.values()):
            if (run_id is None or record.run_id == run_id) and self._alive(record):
                yield record

    def _living(self, path: str) -> CheckpointRecord | None:
        record = self._checkpoints.get(path)
        return record if record is not None and self._alive(record) else None

    def _existing(self, owner: Owner, path: str) -> CheckpointRecord:
        record = self.find(owner, path)
        if record is None:
            raise NoSuchCheckpoint(path)
        return record

    def _alive(self, record: CheckpointRecord) -> bool:
        return record.expires_at is None or record.expires_at > self._now()


def _nobody() -> None:
    """Nobody asks."""


def _may_read(owner: Owner, record: CheckpointRecord, access: Owner | None) -> bool:
    return owns(owner, record.owner) or record.public or (access is not None and owns(access, record.owner))
