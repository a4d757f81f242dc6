"""What a REST client's actor can be asked of the account: who, how much, and what the server offers."""

from __future__ import annotations

import datetime
from typing import Any, Literal, TypeAlias, get_args

from tinker_actors.clients.rest.call import RestCall, known_id_or_none, one_of
from tinker_actors.errors import InvalidInput
from tinker_actors.types import (
    ApiKeyInfo,
    AuditLogResponse,
    BillingUsageResponse,
    CheckpointStorageUsageResponse,
    GetServerCapabilitiesResponse,
)
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints import listings, service

__all__ = [
    "AuditEvents",
    "GetAuditLog",
    "GetBillingUsage",
    "GetCheckpointStorageUsage",
    "GetRestCapabilities",
    "Whoami",
]

AuditEvents: TypeAlias = Literal["all", "checkpoints", "projects", "teams", "organizations"]


class GetRestCapabilities(RestCall[GetServerCapabilitiesResponse], frozen=True):
    """What the server offers."""

    method = "get_server_capabilities"

    async def ask(self, api: Api) -> GetServerCapabilitiesResponse:
        return await service.get_server_capabilities(api)


class Whoami(RestCall[ApiKeyInfo], frozen=True):
    """Whose key this is."""

    method = "whoami"

    async def ask(self, api: Api) -> ApiKeyInfo:
        return await service.api_key_info(api)


class GetAuditLog(RestCall[AuditLogResponse], frozen=True, kw_only=True):
    """The audit log of a day."""

    event_type: AuditEvents
    day: datetime.date | None
    method = "get_audit_log"

    def __post_init__(self) -> None:
        one_of("event_type", self.event_type, get_args(AuditEvents))
        given: Any = self.day
        if given is not None and (not isinstance(given, datetime.date) or isinstance(given, datetime.datetime)):
            raise InvalidInput("day", f"is of type {type(given).__name__}", "Give a datetime.date, or None for today")

    async def ask(self, api: Api) -> AuditLogResponse:
        return await listings.audit_log(api, event_type=self.event_type, day=self.day)


class GetBillingUsage(RestCall[BillingUsageResponse], frozen=True, kw_only=True):
    """Usage of whole hours."""

    starting_on: datetime.datetime
    ending_before: datetime.datetime
    method = "get_billing_usage"

    async def ask(self, api: Api) -> BillingUsageResponse:
        return await listings.billing_usage(api, starting_on=self.starting_on, ending_before=self.ending_before)


class GetCheckpointStorageUsage(RestCall[CheckpointStorageUsageResponse], frozen=True):
    """What checkpoints take."""

    project_id: str | None
    method = "get_current_checkpoint_storage_usage"

    def __post_init__(self) -> None:
        known_id_or_none("project_id", self.project_id)

    async def ask(self, api: Api) -> CheckpointStorageUsageResponse:
        return await listings.checkpoint_storage_usage(api, project_id=self.project_id)
