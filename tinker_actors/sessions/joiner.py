"""The SessionJoiner: in the place of a SessionManager where the session is another process's."""

from __future__ import annotations

from supervision import Actor, StopReason
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.reaction import while_submitting
from tinker_actors.flow.retry import RetryHandler
from tinker_actors.sessions.manager import SessionManager
from tinker_actors.sessions.session import Session
from tinker_actors.wire.endpoints.service import client_config

__all__ = ["SessionJoiner"]


class SessionJoiner(Actor):
    """Takes part in the session ``session_id`` that another process has created and will finish (WIRE 8).

    Its heartbeats keep the session alive as much as those of its owner.
    """

    def __init__(self, session: Session, session_id: str) -> None:
        self._session = session
        self._session_id = session_id

    async def init(self) -> None:
        """Ask what the server wants of its clients. Raises the last APIError when there is to be no further try."""
        session = self._session
        if session.created:
            return
        config, bound = session.config, session.config.start_bound
        patience = RetryHandler(
            config.retry, session.random, outage_bound=bound, billing_bound=bound, max_retries=config.max_retries
        ).patience()
        with session.pending.track(session.name, "join_session", "sent") as entry:
            try:
                server_config = await patience.persist(
                    lambda: client_config(session.api, SessionManager.sdk_version, attempt=patience.tries),
                    while_submitting,
                    entry.explain,
                )
            except OutOfPatience as gone:
                raise gone.error from None
        session.api.credentials.learn(
            exchange=server_config.pjwt_auth_enabled, source=server_config.credential_default_source
        )
        session.activate(self._session_id, server_config)

    async def terminate(self, reason: StopReason) -> None:
        """Leave it, and tell the server nothing: it goes on without this process."""
        session = self._session
        if not reason.restarting and not session.over:
            session.finish()
