"""The Heartbeat: an actor of its own, so that nothing else can delay it."""

from __future__ import annotations

import logging

import trio

from supervision import Actor
from tinker_actors.errors import APIError, APIStatusError
from tinker_actors.sessions.events import SessionLost
from tinker_actors.sessions.session import Session, SessionState
from tinker_actors.types import Severity
from tinker_actors.wire.endpoints.sessions import session_heartbeat

__all__ = ["Heartbeat"]

_log = logging.getLogger("tinker_actors.sessions")

_WARN_AFTER = 120.0  # seconds without a success; the official SDK's, which then repeats itself at every beat
_LONGEST_QUIET = 600.0  # seconds between two such warnings, in the end
_JITTER = 0.1
_SHORTEST = 1.0  # seconds between two beats, however much the session is doubted
_LATE = 4.0  # seconds: with a beat every ten, the server has then been without one for fifteen


class Heartbeat(Actor):
    """Beats every ``heartbeat_interval`` seconds, give or take a tenth, and at once when the session is doubted.

    A session that the server has ended is lost: its state says so, and SessionLost is told. It beats on when another
    one has taken its place.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._warn_at = _WARN_AFTER

    async def init(self) -> None:
        """Start beating."""
        self.context.start_task(self._beat, name="beat")

    async def _beat(self) -> None:
        session = self._session
        succeeded = trio.current_time()
        while session.state.value in (SessionState.CREATING, SessionState.ACTIVE, SessionState.RENEWING):
            interval = session.config.heartbeat_interval
            now = trio.current_time()
            due = now + interval * self.context.random.uniform(1 - _JITTER, 1 + _JITTER)
            with trio.move_on_at(due):
                await session.doubted.wait_value(True)  # pyright: ignore[reportUnknownMemberType]  # trio-util's own gap
                await trio.sleep_until(now + _SHORTEST)
            session.doubted.value = False
            if (late := trio.current_time() - due) > _LATE:
                _log.warning(
                    "a heartbeat of session %s is %.0f s late: something held the event loop, or the machine slept",
                    session.name,
                    late,
                )
            if not session.created or session.state.value is SessionState.RENEWING:
                continue
            session.beats_begun += 1
            number, generation = session.beats_begun, session.generation
            session.points.reach("session.heartbeat", session.name)
            try:
                await session_heartbeat(session.api, session.session_id)
            except APIStatusError as error:
                if error.status in (404, 410):
                    if session.generation == generation and session.state.value is SessionState.ACTIVE:
                        self._lose(error)
                    session.beats_answered.value = number
                    continue
                self._missed(succeeded, error)
            except APIError as error:
                self._missed(succeeded, error)
            else:
                succeeded = trio.current_time()
                self._warn_at = _WARN_AFTER
                session.metrics.add("heartbeats")
                session.beats_answered.value = number

    def _lose(self, error: APIStatusError) -> None:
        session = self._session
        _log.error("the server has ended session %s: %s", session.session_id, error.detail)
        lost = SessionLost(self.context.path.rpartition("/")[0], session.session_id, error.detail)
        if session.telemetry is not None:
            session.telemetry.record("session.lost", {"detail": error.detail}, Severity.ERROR)
        session.lose()
        session.metrics.add("sessions_lost")
        self.context.system.events.emit(lost)

    def _missed(self, succeeded: float, error: APIError) -> None:
        self._session.metrics.add("heartbeats_missed")
        silent = trio.current_time() - succeeded
        if silent > self._warn_at:
            self._warn_at = silent + min(silent, _LONGEST_QUIET)
            _log.warning(
                "no heartbeat of session %s got through for %.0f s; the server may end it: %s",
                self._session.session_id,
                silent,
                error,
            )
