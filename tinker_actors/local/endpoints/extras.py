"""What only this server tells: what it applied, what the weights are, what waits."""

from __future__ import annotations

import msgspec
import trio

from tinker_actors.local.applied import AppliedOperation
from tinker_actors.local.endpoints.incoming import Incoming
from tinker_actors.local.owners import owns
from tinker_actors.local.service import LocalService

__all__ = ["applied", "digest", "queue"]


class AppliedList(msgspec.Struct, frozen=True, kw_only=True):
    """GET /local/applied/{model_id}."""

    applied: tuple[AppliedOperation, ...]


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """GET /local/digest/{model_id}: SHA-256 in hex over the adapter's weights and the optimizer's state."""

    digest: str


class ModelQueue(msgspec.Struct, frozen=True, kw_only=True):
    """One model's queue. ``early`` are the seq_ids that arrived and wait for ``next_seq_id``, which did not.

    ``in_memory`` is false while the adapter is in a file.
    """

    model_id: str
    in_hand: tuple[str, ...]
    queued: int
    next_seq_id: int
    early: tuple[int, ...]
    closed: str | None
    corrupted: str | None
    in_memory: bool


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """GET /local/queue."""

    models: tuple[ModelQueue, ...]
    samples_queued: int
    log_failure: str | None


async def applied(service: LocalService, call: Incoming[None]) -> AppliedList:
    """What this process applied to a model, in order."""
    await trio.lowlevel.checkpoint()
    model = service.find_model(call.owner, call.path["model_id"])
    return AppliedList(applied=service.applied(model.model_id))


async def digest(service: LocalService, call: Incoming[None]) -> Digest:
    """A model's weights, in one number."""
    model = service.find_model(call.owner, call.path["model_id"])
    return Digest(digest=await service.digest(model.model_id))


async def queue(service: LocalService, call: Incoming[None]) -> Queue:
    """What of the owner's waits, and for what."""
    await trio.lowlevel.checkpoint()
    models = tuple(
        ModelQueue(
            model_id=model.model_id,
            in_hand=tuple(map(str, model.queue.in_hand)),
            queued=len(model.queue),
            next_seq_id=model.next_seq_id,
            early=model.early,
            closed=model.closed,
            corrupted=model.corrupted,
            in_memory=service.resident.in_memory(model.model_id),
        )
        for model in service.models.values()
        if owns(call.owner, model.run.owner)
    )
    return Queue(models=models, samples_queued=service.samples.count(call.owner), log_failure=service.log_failure)
