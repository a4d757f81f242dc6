"""The RestClient: what the caller has at the server, without a session."""

from __future__ import annotations

import datetime
from types import TracebackType
from typing import Any, Self, final

import trio

from supervision import ActorRef
from tinker_actors.clients.closing import closed_as_such, stop_child
from tinker_actors.clients.downloading import CheckpointDownloads, Downloads
from tinker_actors.clients.letting_go import stopped_when_gone
from tinker_actors.clients.rest import account_messages as messages
from tinker_actors.clients.rest.account import Account
from tinker_actors.clients.rest.account_messages import AuditEvents
from tinker_actors.clients.rest.actor import RestActor
from tinker_actors.clients.rest.checkpoints import CheckpointCalls
from tinker_actors.clients.rest.runs import RunCalls
from tinker_actors.clients.spec import client_spec
from tinker_actors.config import Config
from tinker_actors.errors import InvalidInput
from tinker_actors.ledger import Future
from tinker_actors.types import (
    ApiKeyInfo,
    AuditLogResponse,
    BillingUsageResponse,
    CheckpointStorageUsageResponse,
    GetServerCapabilitiesResponse,
)

__all__ = ["RestClient", "start_rest_client"]

_HOUR = "Give a datetime, or text such as 2026-01-31T15:00:00Z; without an offset it is UTC's"


@final
class RestClient(RunCalls, CheckpointCalls, CheckpointDownloads):
    """Training runs, checkpoints, sessions, samplers and usage of an account.

    Get one from ``runtime.create_rest_client()``, or from a ServiceClient. Any number of calls may be under way at a
    time. Each returns its result when it is awaited; its twin named ``..._async`` returns a Future at once. A bad
    value is InvalidInput at the call, what the server refuses its APIStatusError; what may pass is asked again until
    the configuration's ``outage_bound``, a change under one idempotency key. One that is let go is closed.
    """

    def __init__(self, account: Account, ref: ActorRef, name: str, session_id: str | None) -> None:
        super().__init__(account, ref)
        self._name = name
        self._session_id = session_id
        self._closed = False
        self._unclosed = stopped_when_gone(self, account.tasks, account.supervisor, name)

    @property
    def session_id(self) -> str | None:
        """The session of the ServiceClient that it was got from; None for one of the runtime's."""
        return self._session_id

    @property
    def config(self) -> Config:
        """The configuration that it works by; printing it shows no secret."""
        return self._account.config

    async def get_server_capabilities(self) -> GetServerCapabilitiesResponse:
        """What the server offers: base models and their context lengths in tokens."""
        return await self._ask(messages.GetRestCapabilities())

    def get_server_capabilities_async(self) -> Future[GetServerCapabilitiesResponse]:
        """``get_server_capabilities``, started at once."""
        return self._start(messages.GetRestCapabilities())

    async def whoami(self) -> ApiKeyInfo:
        """What the server knows of the key: its user and organization."""
        return await self._ask(messages.Whoami())

    def whoami_async(self) -> Future[ApiKeyInfo]:
        """``whoami``, started at once."""
        return self._start(messages.Whoami())

    async def get_audit_log(
        self, event_type: AuditEvents = "all", day: datetime.date | None = None
    ) -> AuditLogResponse:
        """The audit log of a day, for administrators; None: of today."""
        return await self._ask(messages.GetAuditLog(event_type=event_type, day=day))

    def get_audit_log_async(
        self, event_type: AuditEvents = "all", day: datetime.date | None = None
    ) -> Future[AuditLogResponse]:
        """``get_audit_log``, started at once."""
        return self._start(messages.GetAuditLog(event_type=event_type, day=day))

    async def get_billing_usage(
        self, starting_on: datetime.datetime | str, ending_before: datetime.datetime | str
    ) -> BillingUsageResponse:
        """Usage of whole hours, at most 14 days of them, for administrators."""
        return await self._ask(_billing(starting_on, ending_before))

    def get_billing_usage_async(
        self, starting_on: datetime.datetime | str, ending_before: datetime.datetime | str
    ) -> Future[BillingUsageResponse]:
        """``get_billing_usage``, started at once."""
        return self._start(_billing(starting_on, ending_before))

    async def get_current_checkpoint_storage_usage(
        self, project_id: str | None = None
    ) -> CheckpointStorageUsageResponse:
        """What the checkpoints of all projects, or of one, take now, for administrators."""
        return await self._ask(messages.GetCheckpointStorageUsage(project_id))

    def get_current_checkpoint_storage_usage_async(
        self, project_id: str | None = None
    ) -> Future[CheckpointStorageUsageResponse]:
        """``get_current_checkpoint_storage_usage``, started at once."""
        return self._start(messages.GetCheckpointStorageUsage(project_id))

    def _downloads(self) -> Downloads:
        account = self._account
        account.home.require(self)
        return Downloads(
            name=self._name,
            api=account.api,
            config=account.config,
            pending=account.pending,
            offload=account.offload,
            rng=account.random,
            tasks=account.tasks,
            export=account.export,
        )

    async def aclose(self) -> None:
        """Stop this client: calls under way end with an error. Nothing changes at the server."""
        self._account.home.require(self)
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        self._unclosed.detach()
        await stop_child(self._account.supervisor, self._name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<RestClient {self._name}>"


async def start_rest_client(account: Account, session_id: str | None = None) -> RestClient:
    """Start the actor and return its handle. Raises what the server has against it."""
    account.home.require("create_rest_client")
    name = account.next_name()
    with closed_as_such("create_rest_client"):
        ref = await account.supervisor.start_child(client_spec(name, lambda: RestActor(account)))
    return RestClient(account, ref, name, session_id)


def _billing(
    starting_on: datetime.datetime | str, ending_before: datetime.datetime | str
) -> messages.GetBillingUsage:
    start, end = _instant("starting_on", starting_on), _instant("ending_before", ending_before)
    if start >= end:
        raise InvalidInput("ending_before", f"{end} is not after {start}", "Give a later hour than starting_on")
    return messages.GetBillingUsage(starting_on=start, ending_before=end)


def _instant(field: str, given: Any) -> datetime.datetime:
    if isinstance(given, str):
        try:
            given = datetime.datetime.fromisoformat(given)
        except ValueError:
            raise InvalidInput(field, f"{given[:60]!r} is no time", _HOUR) from None
    if not isinstance(given, datetime.datetime):
        raise InvalidInput(field, f"is of type {type(given).__name__}", _HOUR)
    return given if given.tzinfo is not None else given.replace(tzinfo=datetime.UTC)
