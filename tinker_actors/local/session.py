"""Sessions: who is there, what belongs to them, and when they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import trio

from tinker_actors.local.futures import ServerFuture
from tinker_actors.local.model import Model
from tinker_actors.local.owners import Owner, owns
from tinker_actors.local.refusals import Refusal, gone, invalid
from tinker_actors.local.storage import SessionRecord

__all__ = ["Session", "SessionTable"]


@final
class Session:
    """One client's session. Any request that names it, its models or its samplers is a sign of life."""

    def __init__(self, record: SessionRecord) -> None:
        self.record = record
        self.last_seen = trio.current_time()
        self.ended: str | None = None
        self.models: list[Model] = []
        self._creations: dict[int, tuple[str, ServerFuture]] = {}
        self._reserved: set[int] = set()
        self._losses: dict[int, tuple[str, str]] = {}

    @property
    def session_id(self) -> str:
        """Its id."""
        return self.record.session_id

    @property
    def owner(self) -> Owner:
        """Whose it is."""
        return self.record.owner

    def touch(self) -> None:
        """A sign of life."""
        self.last_seen = trio.current_time()

    def creation(self, model_seq_id: int, digest: str) -> ServerFuture | None:
        """The promise of the model with this number, if it was asked for already. Refuses another payload."""
        known = self._creations.get(model_seq_id)
        if model_seq_id in self._reserved or (known is not None and known[0] != digest):
            raise self._taken(model_seq_id)
        return None if known is None else known[1]

    def reserve(self, model_seq_id: int) -> None:
        """Let no model have this number. Refuses when one has."""
        if model_seq_id in self._creations:
            raise self._taken(model_seq_id)
        self._reserved.add(model_seq_id)

    @property
    def losses(self) -> tuple[str, ...]:
        """The ids of its custom losses."""
        return tuple(f"{self.session_id}:loss:{number}" for number in self._losses)

    def loss(self, number: int, digest: str) -> str | None:
        """The promise of the custom loss of this number, if it was asked for already. Refuses another payload."""
        known = self._losses.get(number)
        if known is not None and known[0] != digest:
            raise invalid(
                "custom_loss_seq_id",
                f"{number} of session {self.session_id} was used for another loss",
                "Give each new loss the next number",
            )
        return None if known is None else known[1]

    def promise_loss(self, number: int, digest: str, request_id: str) -> None:
        """Remember the promise."""
        self._losses[number] = (digest, request_id)

    def promise_creation(self, model_seq_id: int, digest: str, future: ServerFuture) -> None:
        """Remember the promise."""
        self._creations[model_seq_id] = (digest, future)

    def _taken(self, model_seq_id: int) -> Refusal:
        return invalid(
            "model_seq_id",
            f"{model_seq_id} of session {self.session_id} was used for another model",
            "Give each new model the next number",
        )


@final
class SessionTable:
    """Every session of this process."""

    def __init__(self, expiry: float, was_before: Callable[[Owner, str], bool]) -> None:
        self._expiry = expiry
        self._was_before = was_before
        self._sessions: dict[str, Session] = {}
        self._changed = trio.Event()

    def add(self, session: Session) -> None:
        """A new session."""
        self._sessions[session.session_id] = session
        self._changed.set()

    def get(self, owner: Owner, session_id: str) -> Session:
        """The owner's living session of this id, now seen. Refuses as ``find`` does, and with 410 when it is over."""
        session = self.find(owner, session_id)
        if session.ended is not None:
            raise gone(f"session {session_id} {session.ended}. Create a new one")
        session.touch()
        return session

    def find(self, owner: Owner, session_id: str) -> Session:
        """The owner's session of this id, living or not. Refuses with 410 when it was of an earlier process, and with
        404 when it never was or is another's.
        """
        session = self._sessions.get(session_id)
        if session is None or not owns(owner, session.owner):
            raise self._unknown(owner, session_id)
        return session

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._sessions

    def alive(self) -> tuple[Session, ...]:
        """Those that have not ended."""
        return tuple(session for session in self._sessions.values() if session.ended is None)

    async def next_silent(self) -> Session:
        """Wait for a session that has been silent for too long."""
        while True:
            self._changed = trio.Event()
            sessions = self.alive()
            due = min((session.last_seen for session in sessions), default=None)
            if due is None:
                await self._changed.wait()
                continue
            if due + self._expiry <= trio.current_time():
                return next(session for session in sessions if session.last_seen == due)
            await trio.sleep_until(due + self._expiry)

    def _unknown(self, owner: Owner, session_id: str) -> Refusal:
        if self._was_before(owner, session_id):
            return gone(f"session {session_id} ended when the server restarted. Create a new one")
        return Refusal(404, f"session {session_id!r}: there is no such session")
