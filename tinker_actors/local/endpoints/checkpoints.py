"""What becomes of a checkpoint that is there: deleted, made public or private again, kept for a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TypeVar

from msgspec import structs

from tinker_actors.local.catalog import NoSuchCheckpoint
from tinker_actors.local.endpoints.incoming import Incoming
from tinker_actors.local.endpoints.training import check_ttl
from tinker_actors.local.refusals import Refusal, not_found, unavailable
from tinker_actors.local.service import LocalService
from tinker_actors.local.storage import CheckpointRecord
from tinker_actors.types import SetTtlRequest, TinkerPath

__all__ = ["checkpoint_path", "delete_checkpoint", "publish_checkpoint", "set_checkpoint_ttl", "unpublish_checkpoint"]

T = TypeVar("T")


class _AsItWas(Exception):
    """Nothing would change."""


async def delete_checkpoint(service: LocalService, call: Incoming[None]) -> None:
    """Delete the checkpoint. Samplers that have read it go on with what they have."""
    path = checkpoint_path(call)
    await _kept(service, path, partial(service.catalog.remove, call.owner, path))
    _audit(service, call, "checkpoint_deleted", path)


async def publish_checkpoint(service: LocalService, call: Incoming[None]) -> None:
    """Let everybody read the checkpoint. 409 when everybody may."""
    await _set_public(service, call, public=True)


async def unpublish_checkpoint(service: LocalService, call: Incoming[None]) -> None:
    """Let nobody but its owner read the checkpoint. 409 when that is so."""
    await _set_public(service, call, public=False)


async def set_checkpoint_ttl(service: LocalService, call: Incoming[SetTtlRequest]) -> None:
    """Let the checkpoint's time be over in so many seconds; null keeps it for good."""
    path, seconds = checkpoint_path(call), call.body.ttl_seconds
    check_ttl(seconds)

    def change(record: CheckpointRecord) -> CheckpointRecord:
        expires_at = None if seconds is None else service.now() + timedelta(seconds=seconds)
        return structs.replace(record, expires_at=expires_at)

    await _kept(service, path, partial(service.catalog.change, call.owner, path, change))
    _audit(service, call, "checkpoint_ttl_set", path, ttl_seconds=seconds)


def checkpoint_path(call: Incoming[T]) -> str:
    """The tinker path of the checkpoint that the request's own path names. Raises InvalidInput."""
    text = f"tinker://{call.path['run_id']}/{call.path['checkpoint_id']}"
    return str(TinkerPath.parse(text, field="checkpoint_id"))


async def _set_public(service: LocalService, call: Incoming[None], *, public: bool) -> None:
    path = checkpoint_path(call)

    def change(record: CheckpointRecord) -> CheckpointRecord:
        if record.public == public:
            raise _AsItWas
        return structs.replace(record, public=public)

    try:
        await _kept(service, path, partial(service.catalog.change, call.owner, path, change))
    except _AsItWas:
        raise Refusal(409, f"{path} is {'public' if public else 'private'} already") from None
    _audit(service, call, "checkpoint_published" if public else "checkpoint_unpublished", path)


def _audit(service: LocalService, call: Incoming[T], event: str, path: str, **details: object) -> None:
    service.activity.audit.add(
        call.owner, "checkpoints", event, model_id=call.path["run_id"], tinker_path=path, details=details
    )


async def _kept(service: LocalService, path: str, work: Callable[[], object]) -> None:
    try:
        await service.offload.run(work)
    except NoSuchCheckpoint:
        raise not_found(f"checkpoint_id: there is no checkpoint {path}") from None
    except OSError as error:
        raise unavailable(f"the change of {path} could not be kept: {error}") from error
