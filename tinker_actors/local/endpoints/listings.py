"""What the catalogue knows: runs, checkpoints, and what a path leads to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec
import trio

from tinker_actors.local.endpoints.incoming import Incoming
from tinker_actors.local.refusals import not_found
from tinker_actors.local.service import LocalService
from tinker_actors.local.storage import CheckpointRecord
from tinker_actors.types import CheckpointKind, TinkerPath, TinkerPathRequest, WeightsInfoResponse

__all__ = ["list_checkpoints", "weights_info"]

_TYPES: Mapping[CheckpointKind, str] = {
    "weights": "training",
    "sampler_weights": "sampler",
    "external_weights": "external",
}


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One checkpoint, as listings show it."""

    checkpoint_id: str
    checkpoint_type: str
    time: datetime
    tinker_path: str
    size_bytes: int
    public: bool
    user_metadata: Mapping[str, str]
    expires_at: datetime | None


class CheckpointList(msgspec.Struct, frozen=True, kw_only=True):
    """GET /training_runs/{run}/checkpoints."""

    checkpoints: tuple[Checkpoint, ...]


async def list_checkpoints(service: LocalService, call: Incoming[None]) -> CheckpointList:
    """The checkpoints of one run, oldest first."""
    await trio.lowlevel.checkpoint()
    run_id = call.path["run_id"]
    if service.catalog.run(call.owner, run_id) is None:
        raise not_found(f"training run {run_id!r}: there is no such run")
    return CheckpointList(checkpoints=tuple(map(_checkpoint, service.catalog.checkpoints(call.owner, run_id))))


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


def _checkpoint(record: CheckpointRecord) -> Checkpoint:
    return Checkpoint(
        checkpoint_id=f"{record.kind}/{record.name}",
        checkpoint_type=_TYPES[record.kind],
        time=record.created_at,
        tinker_path=record.path,
        size_bytes=record.size_bytes,
        public=False,
        user_metadata=record.user_metadata,
        expires_at=record.expires_at,
    )
