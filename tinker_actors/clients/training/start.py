"""A training client started: its model created, or nothing left of the attempt."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio

from supervision import StopReason, SupervisorRef
from tinker_actors.clients.closing import closed_as_such, stop_child
from tinker_actors.clients.own import OwnClient, OwnClients
from tinker_actors.clients.spec import client_spec
from tinker_actors.clients.training.actor import TrainingActor
from tinker_actors.clients.training.checkpoints import AutomaticCheckpoints
from tinker_actors.clients.training.client import TrainingClient
from tinker_actors.clients.training.creation import undo
from tinker_actors.clients.training.model import Model, Source, new_model
from tinker_actors.config import CheckpointPolicy
from tinker_actors.errors import ClosedError
from tinker_actors.ledger import Ledger
from tinker_actors.sessions import Session
from tinker_actors.types import LoraConfig

if TYPE_CHECKING:
    from tinker_actors.clients.service import ServiceClient

__all__ = ["start_training_client"]


async def start_training_client(
    session: Session,
    clients: SupervisorRef,
    what: str,
    *,
    service: ServiceClient,
    own: OwnClients,
    base_model: str,
    user_metadata: Mapping[str, str],
    lora: LoraConfig | None = None,
    source: Source | None = None,
    optimizer: Mapping[str, Any] | None = None,
    checkpoints: CheckpointPolicy | None = None,
) -> TrainingClient:
    """Start the actor of a new model, of the shape ``lora`` or from ``source``, under ``clients``.

    It saves its state by itself as ``checkpoints`` says.

    Raises why the server would not have it. Cancelled, or failed, it stops the actor, and what the server has made
    by then is freed in a task of the runtime's. The number is given to no other model. ``service`` is who wants it,
    and ``own`` where it is entered for as long as it lives.
    """
    first = new_model(session)
    name = f"training-{first.seq_id}"
    config, policy = session.config, session.config.recovery
    ledger = Ledger(
        f"{session.name}/{name}",
        session.pending,
        session.new_key,
        max_pending=config.max_pending,
        max_pending_bytes=config.max_pending_bytes,
        replay_bytes=policy.replay_bytes if policy is not None and policy.replay else None,
        store=session.store,
        spill_bytes=0 if policy is None else policy.spill_bytes,
        when_full="refuse" if policy is None else policy.when_full,
        spans=session.spans,
    )
    session.ledgers.add(ledger)
    model = Model(
        first=first,
        base_model=base_model,
        lora=lora,
        source=source,
        optimizer=optimizer,
        user_metadata=user_metadata,
        ledger=ledger,
        ledgers=session.ledgers,
        checkpoints=AutomaticCheckpoints(session, ledger, checkpoints),
    )
    path = f"{clients.path}/{name}"

    def close(reason: StopReason) -> None:
        model.close(reason)
        own.remove(path)

    spec = client_spec(name, lambda: TrainingActor(session, model), on_close=close)
    try:
        with closed_as_such(what):
            ref = await clients.start_child(spec)
    except BaseException as error:
        session.ledgers.discard(ledger)
        model.checkpoints.close()
        with trio.CancelScope(shield=True):
            await stop_child(clients, name)
        if model.begun and not session.over and (isinstance(error, trio.Cancelled) or ledger.model_id is not None):
            with suppress(ClosedError):  # the runtime is ending, and its sessions with it
                session.tasks.start(f"undo {what}", lambda: undo(session, model))
        raise
    client = TrainingClient(session, model, ref, clients, name, service=service)
    own.add(OwnClient(client=client, service=service, ref=ref, ledger=ledger))
    return client
