"""The SessionManager: creates the session when it starts and finishes it when it stops for good."""

from __future__ import annotations

import logging

import msgspec
import trio

from supervision import Actor, Call, StopReason, handles
from tinker_actors.errors import AuthenticationError, GoneError, NotFoundError
from tinker_actors.flow.patience import OutOfPatience, brief
from tinker_actors.flow.pending import PendingEntry, span
from tinker_actors.flow.reaction import while_renewing, while_submitting
from tinker_actors.flow.retry import RetryHandler
from tinker_actors.sessions.ending import SessionEnd
from tinker_actors.sessions.events import ServerClassFound, SessionRenewed
from tinker_actors.sessions.recognition import of_server
from tinker_actors.sessions.session import Session, SessionState
from tinker_actors.sessions.version import SDK_VERSION
from tinker_actors.types import CreateSessionRequest
from tinker_actors.wire.endpoints.service import client_config
from tinker_actors.wire.endpoints.sessions import create_session, finish_session

__all__ = ["GetSessionInfo", "SessionInfo", "SessionManager"]

_log = logging.getLogger("tinker_actors.sessions")

_FINISHED_WITHIN = 3.0  # seconds of tries; the server ends the session by itself when its heartbeats stop


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the manager knows of its session."""

    session_id: str | None
    state: SessionState


class GetSessionInfo(Call[SessionInfo], frozen=True):
    """Ask the manager for its session."""


class SessionManager(Actor):
    """Creates the session in ``init``; a restarted manager finds it created and goes on.

    One that the server has ended is created anew, where the configuration has a RecoveryPolicy.

    ``sdk_version`` is the protocol generation this client speaks, as servers want to know it.
    """

    sdk_version = SDK_VERSION

    def __init__(self, session: Session) -> None:
        self._session = session

    async def init(self) -> None:
        """Create the session, within the configured start bound, tried again as the configuration says.

        Raises the last APIError when there is to be no further try.
        """
        session = self._session
        if not session.created:
            with session.pending.track(session.name, "create_session", "sent") as entry:
                try:
                    await self._create(entry, session.config.start_bound)
                except OutOfPatience as gone:
                    raise gone.error from None
        self.context.start_task(self._renew, name="renew")

    async def _renew(self) -> None:
        """Create another session whenever the server has ended the one there was."""
        session = self._session
        while True:
            await session.state.wait_value(SessionState.RENEWING)  # pyright: ignore[reportUnknownMemberType]
            with session.pending.track(session.name, "renew_session", "sent") as entry:
                if not await self._persist(entry):
                    session.state.value = SessionState.LOST
                    return
            _log.warning("session %s goes on as %s", session.name, session.session_id)
            place = self.context.path.rpartition("/")[0]
            self.context.system.events.emit(SessionRenewed(place, session.session_id))

    async def _persist(self, entry: PendingEntry) -> bool:
        """Try until there is another session, through any outage; False when the server refuses to give one."""
        session = self._session
        began = trio.current_time()
        while True:
            mended = session.mended.value
            entry.enter("sent")
            session.renewal.begin()
            try:
                await self._create(entry, session.config.outage_bound)
            except OutOfPatience as gone:
                if isinstance(gone.error, AuthenticationError):
                    _log.error(
                        "session %s is lost, and no other is had until its credential is mended: %s",
                        *(session.name, gone.error),
                    )
                    entry.enter("waiting", f"halted until its credential is mended: {gone.error}")
                    await session.until_mended(mended)
                elif gone.outage:
                    pause = session.pause_in_outage()
                    lasted = span(trio.current_time() - began)
                    _log.error(
                        "session %s is lost, and no other was had for %s; who waits is told, and it is tried on: %s",
                        *(session.name, lasted, gone.error),
                    )
                    session.renewal.fail(gone)
                    entry.enter(
                        "waiting",
                        f"no other was had for {lasted}, next try in {pause:.1f} s after {brief(gone.error)}",
                    )
                    await trio.sleep(pause)
                else:
                    _log.error(
                        "session %s is lost, and no other could be had in its place: %s", session.name, gone.error
                    )
                    return False
            else:
                return True

    async def _create(self, entry: PendingEntry, bound: float) -> None:
        """Create a session. Raises OutOfPatience."""
        session = self._session
        config = session.config
        patience = RetryHandler(
            config.retry, session.random, outage_bound=bound, billing_bound=bound, max_retries=config.max_retries
        ).patience()
        react = while_renewing if session.created else while_submitting
        server_config = await patience.persist(
            lambda: client_config(session.api, self.sdk_version, attempt=patience.tries),
            react,
            entry.explain,
        )
        session.api.credentials.learn(
            exchange=server_config.pjwt_auth_enabled, source=server_config.credential_default_source
        )
        request = CreateSessionRequest(
            tags=session.tags,
            user_metadata=session.user_metadata,
            sdk_version=self.sdk_version,
            project_id=session.project_id,
        )
        key = session.new_key()
        created = await patience.persist(
            lambda: create_session(session.api, request, key=key, attempt=patience.tries),
            react,
            entry.explain,
        )
        for level, text in (
            (logging.INFO, created.info_message),
            (logging.WARNING, created.warning_message),
            (logging.ERROR, created.error_message),
        ):
            if text:
                _log.log(level, "the server says of session %s: %s", created.session_id, text)
        session.activate(created.session_id, server_config)
        if (known := of_server(config, server_config)) is not None and session.learn_class(*known):
            place = self.context.path.rpartition("/")[0]
            self.context.system.events.emit(ServerClassFound(place, *known))

    @handles(GetSessionInfo)
    async def get_session_info(self, message: GetSessionInfo) -> SessionInfo:
        """The session's id and state."""
        session = self._session
        return SessionInfo(session_id=session.session_id if session.created else None, state=session.state.value)

    async def terminate(self, reason: StopReason) -> None:
        """Finish the session at the server when this place stops for good, and not when it restarts."""
        session = self._session
        if reason.restarting:
            return
        if session.telemetry is not None:
            session.telemetry.end()
        if session.over:
            return
        if session.state.value is not SessionState.ACTIVE:  # the server has none to be finished
            session.finish()
            return
        session.finish()
        end = session.end or SessionEnd()
        config, bound = session.config, _FINISHED_WITHIN
        patience = RetryHandler(
            config.retry, session.random, outage_bound=bound, billing_bound=bound, max_retries=config.max_retries
        ).patience()
        with session.pending.track(session.name, "finish_session", "sent") as entry:
            try:
                await patience.persist(
                    lambda: finish_session(
                        session.api, session.session_id, end.status, end.detail, attempt=patience.tries
                    ),
                    while_submitting,
                    entry.explain,
                )
            except OutOfPatience as gone:
                name = session.session_id
                match gone.error:
                    case NotFoundError():
                        _log.info("session %s ends with its heartbeats: the server knows no other end", name)
                    case GoneError():
                        _log.info("session %s had ended at the server: %s", name, gone.error)
                    case error:
                        _log.warning("session %s could not be finished: %s", name, error)
