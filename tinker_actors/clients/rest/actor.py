"""The REST client's actor: asks in tasks of its own, so that any number of calls are under way at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from supervision import Actor, Reply, handles
from tinker_actors.clients.rest.account import Account
from tinker_actors.clients.rest.call import RestCall, RestChange
from tinker_actors.clients.rest.checkpoint_messages import GetCheckpointArchiveUrl
from tinker_actors.clients.rest.run_messages import ExportSessionTrace
from tinker_actors.errors import (
    APIError,
    APIStatusError,
    ConflictError,
    RequestFailedError,
    ServiceUnavailableError,
    TinkerError,
)
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.pending import PendingEntry
from tinker_actors.flow.reaction import Reaction, may_have_arrived, while_calling, while_submitting
from tinker_actors.types import CheckpointArchiveUrlResponse
from tinker_actors.wire.endpoints.service import client_config

__all__ = ["RestActor"]

R = TypeVar("R")

_TRACE_DELAY = 5.0  # seconds between two questions, as the official SDK has it


class RestActor(Actor):
    """Each call is a task of this actor's, which ends with it."""

    def __init__(self, account: Account) -> None:
        self._account = account

    async def init(self) -> None:
        """Learn how the server wants to be asked: some take no key, but tokens (WIRE 8). Raises why it won't say."""
        account = self._account
        patience = account.patience(account.config.start_bound)
        with account.pending.track(self.context.name, "client_config", "sent") as entry:
            try:
                known = await patience.persist(
                    lambda: client_config(account.api, account.sdk_version, attempt=patience.tries),
                    while_submitting,
                    entry.explain,
                )
            except OutOfPatience as gone:
                raise gone.error from None
        account.billing_bound = known.billing_exception_max_pause_duration_sec
        account.api.credentials.learn(exchange=known.pjwt_auth_enabled, source=known.credential_default_source)

    @handles(RestCall)
    def call(self, message: RestCall[Any]) -> None:
        """Ask in a task, so that the mailbox stays free."""
        self.context.start_task(self._answer, message, self.context.defer_reply(), name=message.method)

    async def _answer(self, message: RestCall[Any], reply: Reply[Any]) -> None:
        account = self._account
        with account.pending.track(self.context.name, message.method, "sent") as entry:
            try:
                match message:
                    case ExportSessionTrace():
                        answer: Any = await self._trace(message, reply, entry)
                    case GetCheckpointArchiveUrl():
                        answer = await self._archive(message, reply, entry)
                    case RestChange():
                        answer = await self._change(message, reply, entry)
                    case _:
                        answer = await self._persist(lambda: message.ask(account.api), while_calling, reply, entry)
            except TinkerError as error:
                reply.fail(error)
            else:
                reply.send(answer)

    async def _persist(
        self,
        attempt: Callable[[], Awaitable[R]],
        react: Callable[[APIError], Reaction],
        reply: Reply[Any],
        entry: PendingEntry,
    ) -> R:
        def unless_left(error: APIError) -> Reaction:
            return react(error) if reply.wanted else Reaction.FAIL

        try:
            return await self._account.patience().persist(attempt, unless_left, entry.explain)
        except OutOfPatience as gone:
            raise gone.error from None

    async def _change(self, message: RestChange[R], reply: Reply[Any], entry: PendingEntry) -> R | None:
        doubted = False

        async def attempt() -> R | None:
            nonlocal doubted
            try:
                return await message.ask(self._account.api)
            except APIError as error:
                if doubted and isinstance(error, APIStatusError) and error.status == message.done_by:
                    return None  # an earlier try, whose answer was lost, has done it
                doubted = doubted or may_have_arrived(error)
                raise

        return await self._persist(attempt, _while_changing, reply, entry)

    async def _trace(self, message: ExportSessionTrace, reply: Reply[Any], entry: PendingEntry) -> str | None:
        while reply.wanted:
            trace = await self._persist(lambda: message.look(self._account.api), while_calling, reply, entry)
            if trace.status == "ready" and trace.url:
                return trace.url
            if trace.status == "failed":
                reason = trace.error or "the server gives no reason"
                of = f"the trace of session {message.session_id}"
                raise RequestFailedError(reason, category="server", request_id=message.session_id, operation=of)
            entry.enter("being made", "the server makes the trace", expected=True)
            await trio.sleep(_TRACE_DELAY)
        return None

    async def _archive(
        self, message: GetCheckpointArchiveUrl, reply: Reply[Any], entry: PendingEntry
    ) -> CheckpointArchiveUrlResponse:
        tries = 0
        while True:
            tries += 1
            try:
                return await self._persist(lambda: message.ask(self._account.api), _unless_unavailable, reply, entry)
            except ServiceUnavailableError as error:
                if tries >= message.max_tries or not reply.wanted:
                    raise
                delay = max(message.retry_delay, error.retry_after or 0.0)
            entry.enter("being made", f"the server makes the archive; asked again in {delay:g} s", expected=True)
            await trio.sleep(delay)


def _while_changing(error: APIError) -> Reaction:
    """409 says that nothing would change, and asking again would change nothing."""
    return Reaction.FAIL if isinstance(error, ConflictError) else while_calling(error)


def _unless_unavailable(error: APIError) -> Reaction:
    return Reaction.FAIL if isinstance(error, ServiceUnavailableError) else while_calling(error)
