"""KeptStorage: what a simulated server finds again when it has died and started anew."""

from __future__ import annotations

from typing import final

from tinker_actors.local.storage import CheckpointRecord, RunRecord, SessionRecord

__all__ = ["KeptStorage"]


@final
class KeptStorage:
    """A Storage in memory that outlives its server: records and weights are there for the next one."""

    def __init__(self) -> None:
        self._sessions: dict[str, SessionRecord] = {}
        self._runs: dict[str, RunRecord] = {}
        self._checkpoints: dict[str, tuple[CheckpointRecord, bytes]] = {}
        self._revoked: dict[str, None] = {}

    def sessions(self) -> tuple[SessionRecord, ...]:
        """Every session, oldest first."""
        return tuple(self._sessions.values())

    def runs(self) -> tuple[RunRecord, ...]:
        """Every run, oldest first."""
        return tuple(self._runs.values())

    def checkpoints(self) -> tuple[CheckpointRecord, ...]:
        """Every checkpoint, oldest first."""
        return tuple(record for record, _ in self._checkpoints.values())

    def add_session(self, record: SessionRecord) -> None:
        """Keep a session, in place of the one of the same id."""
        self._sessions[record.session_id] = record

    def add_run(self, record: RunRecord) -> None:
        """Keep a new run."""
        self._runs[record.run_id] = record

    def put(self, record: CheckpointRecord, data: bytes) -> None:
        """Keep a checkpoint, in place of one of the same path."""
        self._checkpoints[record.path] = record, data

    def amend(self, record: CheckpointRecord) -> None:
        """Keep ``record`` in place of the one of the same path, whose weights stay."""
        self._checkpoints[record.path] = record, self._checkpoints[record.path][1]

    def read(self, record: CheckpointRecord) -> bytes:
        """The bytes."""
        return self._checkpoints[record.path][1]

    def remove(self, path: str) -> None:
        """Forget a checkpoint."""
        del self._checkpoints[path]

    def revoke_key(self, digest: str) -> None:
        """Keep that the key of this digest was revoked."""
        self._revoked[digest] = None

    def revoked_keys(self) -> tuple[str, ...]:
        """The digests of all keys that were revoked."""
        return tuple(self._revoked)

    def close(self) -> None:
        """Keep everything for the next server."""
