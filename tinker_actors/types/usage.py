"""What an organization's administrators can ask: the audit log, usage and storage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from tinker_actors.types.checked import Checked, Timestamp

__all__ = [
    "AuditLogEntry",
    "AuditLogResponse",
    "BillingEventInfo",
    "BillingUsageEvent",
    "BillingUsageResponse",
    "BillingUsageSession",
    "CheckpointBillingEvent",
    "CheckpointStorageUsage",
    "CheckpointStorageUsageResponse",
    "SamplingPrefillBillingEvent",
    "SamplingSampleBillingEvent",
    "StorageBillingEvent",
    "TrainingBillingEvent",
]


class AuditLogEntry(Checked, frozen=True, kw_only=True):
    """One thing that somebody did."""

    timestamp: Timestamp
    event: str
    event_details: Mapping[str, Any] = {}
    model_id: str | None = None
    tinker_path: str | None = None
    purpose: str | None = None


class AuditLogResponse(Checked, frozen=True, kw_only=True):
    """The audit log of a day."""

    entries: tuple[AuditLogEntry, ...]


class TrainingBillingEvent(Checked, frozen=True, kw_only=True, tag="training"):
    """Tokens trained on."""

    token_count: int


class SamplingPrefillBillingEvent(Checked, frozen=True, kw_only=True, tag="sampling_prefill"):
    """Prompt tokens, computed or found in a cache."""

    cached: bool
    token_count: int


class SamplingSampleBillingEvent(Checked, frozen=True, kw_only=True, tag="sampling_sample"):
    """Tokens sampled."""

    token_count: int


class CheckpointBillingEvent(Checked, frozen=True, kw_only=True, tag="checkpoint"):
    """Checkpoints saved."""

    count: int


class StorageBillingEvent(Checked, frozen=True, kw_only=True, tag="storage"):
    """Storage used."""

    gigabyte_hours: float
    free: bool = False


BillingEventInfo: TypeAlias = (
    TrainingBillingEvent
    | SamplingPrefillBillingEvent
    | SamplingSampleBillingEvent
    | CheckpointBillingEvent
    | StorageBillingEvent
)


class BillingUsageEvent(Checked, frozen=True, kw_only=True):
    """Usage of one kind within one hour; prices in US dollars, None where they are not known."""

    bucket_start: Timestamp
    bucket_end: Timestamp
    event_info: BillingEventInfo
    base_model: str | None = None
    user_id: str | None = None
    user_name: str | None = None
    session_id: str | None = None
    project_id: str | None = None
    estimated_cost_usd: float | None = None
    effective_rate_usd_per_million_tokens: float | None = None
    effective_rate_usd_per_gigabyte_month: float | None = None


class BillingUsageSession(Checked, frozen=True, kw_only=True):
    """What is known of a session that usage belongs to."""

    user_metadata: Mapping[str, str] | None = None


class BillingUsageResponse(Checked, frozen=True, kw_only=True):
    """Usage, its sessions by id, and until when costs are final."""

    data: tuple[BillingUsageEvent, ...]
    sessions: Mapping[str, BillingUsageSession] = {}
    cost_data_through: Timestamp | None = None


class CheckpointStorageUsage(Checked, frozen=True, kw_only=True):
    """What the checkpoints of one project and user take."""

    checkpoint_count: int
    size_bytes: int
    size_gigabytes: float
    project_id: str | None = None
    org_user_urn: str | None = None
    user_email: str | None = None
    user_name: str | None = None
    estimated_monthly_cost_usd: float | None = None


class CheckpointStorageUsageResponse(Checked, frozen=True, kw_only=True):
    """What an organization's checkpoints take now, an hour or two late."""

    data: tuple[CheckpointStorageUsage, ...]
    effective_rate_usd_per_gigabyte_month: float | None = None
