"""The control plane of a service client: what it asks the server in its own name."""

from __future__ import annotations

from supervision import Actor, Call, handles
from tinker_actors.errors import TinkerError
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.reaction import while_polling
from tinker_actors.sessions import Session
from tinker_actors.types import (
    GetServerCapabilitiesResponse,
)
from tinker_actors.wire.endpoints.service import get_server_capabilities

__all__ = ["GetServerCapabilities", "ServiceActor"]


class GetServerCapabilities(Call[GetServerCapabilitiesResponse], frozen=True):
    """Ask the server what it offers."""


class ServiceActor(Actor):
    """The control plane of one service client."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @handles(GetServerCapabilities)
    async def get_server_capabilities(self, message: GetServerCapabilities) -> None:
        """Ask in a task of its own, so that the mailbox stays free."""
        reply = self.context.defer_reply()
        session = self._session

        async def ask() -> None:
            with session.pending.track(session.name, "get_server_capabilities", "sent") as entry:
                try:
                    patience = session.poller().patience()
                    answer = await patience.persist(
                        lambda: get_server_capabilities(session.api, attempt=patience.tries),
                        while_polling,
                        entry.explain,
                    )
                    reply.send(answer)
                except OutOfPatience as gone:
                    reply.fail(gone.error)
                except TinkerError as error:
                    reply.fail(error)

        self.context.start_task(ask, name="get_server_capabilities")
