"""The part of the runtime's tree that recovers runs, started."""

from __future__ import annotations

from supervision import ActorSystem, StopReason, SupervisorSpec, TaskSupervisor, TaskSupervisorSpec
from tinker_actors.clients.own import OwnClients
from tinker_actors.clients.spec import client_spec
from tinker_actors.config import RecoveryPolicy
from tinker_actors.flow.pending import PendingTable
from tinker_actors.ledger import Tasks
from tinker_actors.metrics import Metrics
from tinker_actors.ports import Offload
from tinker_actors.recovery.account_rest import AccountRest
from tinker_actors.recovery.callbacks import Callbacks
from tinker_actors.recovery.choice import Scores
from tinker_actors.recovery.executor import Executor
from tinker_actors.recovery.front import Recovery
from tinker_actors.recovery.monitor import Monitor
from tinker_actors.recovery.queue import RecoveryQueue
from tinker_actors.recovery.room import RecoveryRoom
from tinker_actors.recovery.watches import Watches
from tinker_actors.wire.api import Api

__all__ = ["start_recovery"]


async def start_recovery(
    system: ActorSystem,
    *,
    policy: RecoveryPolicy | None,
    clients: OwnClients,
    api: Api,
    pending: PendingTable,
    tasks: Tasks,
    offload: Offload,
    metrics: Metrics,
) -> Recovery:
    """Start Executor and Monitor below ``system``, and give the handle.

    The attempts come first, so that no crash of the two ends one. Who crashes too often ends degraded by itself.
    """
    place = await system.start_child(SupervisorSpec("recovery", strategy="rest_for_one"))
    attempts: TaskSupervisor = await place.start_child(TaskSupervisorSpec("attempts", grace=0.0))
    scores = Scores()
    tell = system.events.emit
    room = RecoveryRoom(
        policy=policy,
        queue=RecoveryQueue(pending),
        watches=Watches(clients, scores, policy),
        attempts=attempts,
        callbacks=Callbacks(attempts, offload, tell),
        tasks=tasks,
        metrics=metrics,
        tell=tell,
    )
    system.events.subscribe(room.watches.hear)
    await place.start_child(
        client_spec("executor", lambda: Executor(room), on_close=lambda reason: room.queue.close(_why(reason)))
    )
    monitor = client_spec(
        "monitor",
        lambda: Monitor(room, clients, AccountRest(api), scores),
        on_close=lambda _: room.watches.close(),
    )
    await place.start_child(monitor)
    return Recovery(room, scores, tasks)


def _why(reason: StopReason) -> str:
    return f"the Executor crashed too often: {reason.crash}" if reason.crash is not None else "the runtime is closed"
