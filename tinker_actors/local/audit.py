"""Who did what to checkpoints, projects and keys: the audit log of this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import date
from typing import Any, Final, Literal, TypeAlias, final

from tinker_actors.local.clock import Now
from tinker_actors.local.owners import Owner, owns
from tinker_actors.types import AuditLogEntry

__all__ = ["AuditLog", "AuditSubject"]

AuditSubject: TypeAlias = Literal["checkpoints", "projects", "teams", "organizations"]
"""What an event is about; a local server has no teams."""

_MOST: Final = 100_000


@final
class AuditLog:
    """The latest events, of all owners; each sees their own."""

    def __init__(self, now: Now) -> None:
        self._now = now
        self._entries: deque[tuple[Owner, AuditSubject, AuditLogEntry]] = deque(maxlen=_MOST)

    def add(
        self,
        owner: Owner,
        subject: AuditSubject,
        event: str,
        *,
        model_id: str | None = None,
        tinker_path: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """``owner`` did this just now. Safe from any thread."""
        entry = AuditLogEntry(
            timestamp=self._now(),
            event=event,
            event_details=details or {},
            model_id=model_id,
            tinker_path=tinker_path,
        )
        self._entries.append((owner, subject, entry))

    def entries(self, owner: Owner, subject: AuditSubject | None, day: date) -> tuple[AuditLogEntry, ...]:
        """What the owner did to ``subject`` (None: to anything) on ``day`` of UTC, in order."""
        return tuple(
            entry
            for by, about, entry in tuple(self._entries)
            if owns(owner, by) and subject in (None, about) and entry.timestamp.date() == day
        )
