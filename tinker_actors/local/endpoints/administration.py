"""What administrators ask for: the audit log, usage, storage. Here each owner administrates what is their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal, TypeAlias

import msgspec
import trio

from tinker_actors.local.audit import AuditSubject
from tinker_actors.local.endpoints.incoming import Incoming
from tinker_actors.local.endpoints.runs import project_of
from tinker_actors.local.owners import Owner
from tinker_actors.local.refusals import invalid
from tinker_actors.local.service import LocalService
from tinker_actors.local.storage import CheckpointRecord
from tinker_actors.local.usage import HOUR, Usage, hour_of
from tinker_actors.types import (
    AuditLogResponse,
    BillingEventInfo,
    BillingUsageEvent,
    BillingUsageResponse,
    BillingUsageSession,
    CheckpointBillingEvent,
    CheckpointStorageUsage,
    CheckpointStorageUsageResponse,
    SamplingPrefillBillingEvent,
    SamplingSampleBillingEvent,
    StorageBillingEvent,
    TrainingBillingEvent,
)

__all__ = ["AuditQuery", "StorageQuery", "UsageQuery", "audit_log", "billing_usage", "checkpoint_storage"]

_LONGEST: Final = timedelta(days=14)
_GIGABYTE: Final = 1e9
_FREE: Final = 0.0
_Group: TypeAlias = tuple[str | None, Owner]


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /audit; ``day`` is one of UTC, and today if left out."""

    event_type: Literal["all", "checkpoints", "projects", "teams", "organizations"] = "all"
    day: date | None = None


class UsageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /billing/usage/events: whole hours, at most 14 days."""

    starting_on: datetime
    ending_before: datetime


class StorageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /billing/usage/checkpoints/current."""

    project_id: str | None = None


async def audit_log(service: LocalService, call: Incoming[AuditQuery]) -> AuditLogResponse:
    """What the caller did to checkpoints, projects and keys on a day, as far as this process knows."""
    await trio.lowlevel.checkpoint()
    wanted = call.body.event_type
    subject: AuditSubject | None = None if wanted == "all" else wanted
    day = call.body.day if call.body.day is not None else service.now().date()
    return AuditLogResponse(entries=service.activity.audit.entries(call.owner, subject, day))


async def billing_usage(service: LocalService, call: Incoming[UsageQuery]) -> BillingUsageResponse:
    """By the hour, and free: the caller's tokens and saves of this process, and the storage of what is there."""
    await trio.lowlevel.checkpoint()
    start = _whole_hour("starting_on", call.body.starting_on)
    end = _whole_hour("ending_before", call.body.ending_before)
    if not start < end <= start + _LONGEST:
        raise invalid("ending_before", f"{end} is not within 14 days after {start}", "Ask for 1 hour to 14 days")
    events = [
        _event(service, usage, count) for usage, count in service.activity.usage.between(call.owner, start, end)
    ]
    events += _storage(service, call.owner, start, min(end, service.now()))
    sessions: dict[str, BillingUsageSession] = {}
    for event in events:
        record = None if event.session_id is None else service.catalog.session(call.owner, event.session_id)
        if record is not None:
            sessions[record.session_id] = BillingUsageSession(user_metadata=record.user_metadata)
    return BillingUsageResponse(data=tuple(events), sessions=sessions)


async def checkpoint_storage(service: LocalService, call: Incoming[StorageQuery]) -> CheckpointStorageUsageResponse:
    """How many checkpoints the caller has in each project, and what they take."""
    await trio.lowlevel.checkpoint()
    groups: defaultdict[_Group, list[int]] = defaultdict(list)
    for record in service.catalog.checkpoints(call.owner):
        project = _project(service, record)
        if call.body.project_id in (None, project):
            groups[project, record.owner].append(record.size_bytes)
    return CheckpointStorageUsageResponse(
        effective_rate_usd_per_gigabyte_month=_FREE,
        data=tuple(
            CheckpointStorageUsage(
                project_id=project,
                user_name=owner,
                checkpoint_count=len(sizes),
                size_bytes=sum(sizes),
                size_gigabytes=sum(sizes) / _GIGABYTE,
                estimated_monthly_cost_usd=_FREE,
            )
            for (project, owner), sizes in groups.items()
        ),
    )


def _whole_hour(field: str, given: datetime) -> datetime:
    time = given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)
    if time != hour_of(time):
        raise invalid(field, f"{given.isoformat()} is not a whole hour", "Give a time such as 2026-11-29T12:00:00Z")
    return time


def _event(service: LocalService, usage: Usage, count: int) -> BillingUsageEvent:
    session = service.catalog.session(usage.owner, usage.session_id)
    info: BillingEventInfo
    match usage.kind:
        case "training":
            info = TrainingBillingEvent(token_count=count)
        case "sampling_prefill":
            info = SamplingPrefillBillingEvent(cached=False, token_count=count)
        case "sampling_sample":
            info = SamplingSampleBillingEvent(token_count=count)
        case "checkpoint":
            info = CheckpointBillingEvent(count=count)
    return BillingUsageEvent(
        bucket_start=usage.hour,
        bucket_end=usage.hour + HOUR,
        event_info=info,
        base_model=usage.base_model,
        user_name=usage.owner,
        session_id=usage.session_id,
        project_id=None if session is None else session.project_id,
        estimated_cost_usd=_FREE,
        effective_rate_usd_per_million_tokens=None if usage.kind == "checkpoint" else _FREE,
    )


def _storage(service: LocalService, owner: Owner, start: datetime, end: datetime) -> Iterator[BillingUsageEvent]:
    records = service.catalog.checkpoints(owner)
    hour = max(start, min((hour_of(record.created_at) for record in records), default=end))
    while hour < end:
        until = min(hour + HOUR, end)
        taken: defaultdict[_Group, float] = defaultdict(float)
        for record in records:
            share = (until - max(hour, record.created_at)) / HOUR
            if share > 0.0:
                taken[_project(service, record), record.owner] += record.size_bytes / _GIGABYTE * share
        for (project, name), gigabyte_hours in taken.items():
            yield BillingUsageEvent(
                bucket_start=hour,
                bucket_end=hour + HOUR,
                # that it is free, the price says: not all SDKs know ``free``
                event_info=StorageBillingEvent(gigabyte_hours=gigabyte_hours),
                user_name=name,
                project_id=project,
                estimated_cost_usd=_FREE,
                effective_rate_usd_per_gigabyte_month=_FREE,
            )
        hour += HOUR


def _project(service: LocalService, record: CheckpointRecord) -> str | None:
    run = service.catalog.run(record.owner, record.run_id)
    return None if run is None else project_of(service, run)
