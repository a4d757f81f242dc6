"""One attempt to recover a run: a checkpoint, and a training client from it, or nothing."""

from __future__ import annotations

from tinker_actors.checks import text
from tinker_actors.recovery.events import CheckpointSelected, RecoveryClientCreated, RecoveryStarted
from tinker_actors.recovery.queue import Order, RecoveredRun, model_id_of
from tinker_actors.recovery.room import RecoveryRoom

__all__ = ["attempt"]


async def attempt(order: Order, number: int, room: RecoveryRoom) -> RecoveredRun:
    """Choose, then create; what it is ended by leaves no client, as the service promises."""
    wanted, run_id, path = order.wanted, order.run_id, room.attempts.path
    policy, metadata = wanted.policy, wanted.metadata
    room.tell(RecoveryStarted(path, run_id, metadata, number, policy.checkpoint))
    room.metrics.add("recovery_attempts")
    order.entry.explain(f"attempt {number}: a checkpoint is being chosen")
    checkpoint = text(
        "checkpoint",
        await wanted.chooser.choose(run_id, wanted.checkpoint, wanted.rest),
        "Let the chooser give a path",
    )
    room.tell(CheckpointSelected(path, run_id, metadata, number, checkpoint))
    order.entry.explain(f"attempt {number}: a client is being made from {checkpoint}")
    if policy.restore_optimizer:
        client = await wanted.service.create_training_client_from_state_with_optimizer(checkpoint)
    else:
        client = await wanted.service.create_training_client_from_state(checkpoint)
    # no checkpoint of trio's from here on: who gets the result has the client in hand
    room.tell(RecoveryClientCreated(path, run_id, metadata, number, model_id_of(client)))
    return RecoveredRun(run_id=run_id, client=client, checkpoint=checkpoint, attempts=number)
