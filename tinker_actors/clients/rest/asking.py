"""What every group of a REST client's methods needs: to ask its actor, now or in a task of the runtime's."""

from __future__ import annotations

from typing import TypeVar

from supervision import ActorRef
from tinker_actors.clients.closing import closed_as_such
from tinker_actors.clients.rest.account import Account
from tinker_actors.clients.rest.call import RestCall
from tinker_actors.ledger import Future

__all__ = ["Asking"]

R = TypeVar("R")


class Asking:
    """Asks with messages that have checked themselves, so that a bad value is an error at the call."""

    def __init__(self, account: Account, ref: ActorRef) -> None:
        self._account = account
        self._ref = ref

    async def _ask(self, message: RestCall[R]) -> R:
        self._account.home.require(self)
        with closed_as_such(message.method):
            return await self._ref.call(message, timeout=float("inf"))

    def _start(self, message: RestCall[R]) -> Future[R]:
        self._account.home.require(self)
        return self._account.tasks.start(message.method, lambda: self._ask(message))
