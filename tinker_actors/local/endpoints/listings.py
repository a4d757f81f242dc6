"""What the catalogue knows: runs, checkpoints, and what a path leads to."""

from __future__ import annotations

from typing import Annotated

import msgspec
import trio

from tinker_actors.local.endpoints.incoming import Incoming
from tinker_actors.local.endpoints.query import Page, part
from tinker_actors.local.refusals import not_found
from tinker_actors.local.service import LocalService
from tinker_actors.local.storage import CheckpointRecord
from tinker_actors.types import (
    Checkpoint,
    CheckpointsListResponse,
    TinkerPath,
    TinkerPathRequest,
    WeightsInfoResponse,
)

__all__ = ["CheckpointsPage", "list_checkpoints", "list_user_checkpoints", "listed_checkpoint", "weights_info"]


class CheckpointsPage(Page, frozen=True, kw_only=True):
    """GET /checkpoints."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


async def list_checkpoints(service: LocalService, call: Incoming[None]) -> CheckpointsListResponse:
    """The checkpoints of one run, oldest first, all of them."""
    await trio.lowlevel.checkpoint()
    run_id = call.path["run_id"]
    if service.catalog.run(call.owner, run_id) is None:
        raise not_found(f"training run {run_id!r}: there is no such run")
    return CheckpointsListResponse(
        checkpoints=tuple(map(listed_checkpoint, service.catalog.checkpoints(call.owner, run_id)))
    )


async def list_user_checkpoints(service: LocalService, call: Incoming[CheckpointsPage]) -> CheckpointsListResponse:
    """A part of the checkpoints of all the caller's runs, newest first."""
    await trio.lowlevel.checkpoint()
    records = sorted(service.catalog.checkpoints(call.owner), key=lambda record: record.created_at)
    found, cursor = part(records[::-1], call.body)
    return CheckpointsListResponse(checkpoints=tuple(map(listed_checkpoint, found)), cursor=cursor)


async def weights_info(service: LocalService, call: Incoming[TinkerPathRequest]) -> WeightsInfoResponse:
    """What a client must know of a checkpoint to make a model of its shape."""
    await trio.lowlevel.checkpoint()
    path = str(TinkerPath.parse(call.body.tinker_path, field="tinker_path"))
    record = service.catalog.readable(call.owner, path)
    if record is None:
        raise not_found(f"tinker_path: there is no checkpoint {path}")
    return WeightsInfoResponse(
        base_model=record.base_model,
        is_lora=True,
        lora_rank=record.lora.rank,
        train_unembed=record.lora.train_unembed,
        train_mlp=record.lora.train_mlp,
        train_attn=record.lora.train_attn,
    )


def listed_checkpoint(record: CheckpointRecord) -> Checkpoint:
    """The checkpoint as listings show it (WIRE 5.10)."""
    path = TinkerPath(record.run_id, record.kind, record.name)
    return Checkpoint(
        checkpoint_id=path.checkpoint_id,
        checkpoint_type=path.checkpoint_type,
        time=record.created_at,
        tinker_path=record.path,
        size_bytes=record.size_bytes,
        public=record.public,
        user_metadata=record.user_metadata,
        expires_at=record.expires_at,
    )
