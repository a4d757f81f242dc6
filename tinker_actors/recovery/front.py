"""``runtime.recovery``: the handle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, final

import msgspec
import trio

from tinker_actors.checks import number, text, texts
from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import InvalidInput, RecoveryDisabled
from tinker_actors.flow.home import Home
from tinker_actors.ledger import Future, Tasks
from tinker_actors.recovery.behaviours import CheckpointChooser, RestBehaviour, ServiceBehaviour
from tinker_actors.recovery.choice import PolicyChooser, Scores
from tinker_actors.recovery.queue import Order, RecoveredRun, RecoveryState, Wanted
from tinker_actors.recovery.room import RecoveryRoom
from tinker_actors.recovery.watches import Watch
from tinker_actors.types import checkpoint_path

__all__ = ["Recovery", "RecoveryInfo"]

_RUN = "Give a training run's id, which is its model's"


class RecoveryInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is being recovered: ``attempts`` have begun."""

    run_id: str
    state: RecoveryState
    attempts: int


@final
class Recovery:
    """Watches runs, and recovers those that their server has lost into new training clients.

    The runtime's own training clients need none of it: where the configuration has a RecoveryPolicy they are watched
    for as long as they live, and go on by themselves. ``service`` is a ServiceClient, or anything that can do what a
    ServiceBehaviour does; ``policy`` counts before the configuration's. ``metadata`` comes with every event.
    """

    def __init__(self, room: RecoveryRoom, scores: Scores, tasks: Tasks) -> None:
        self._room = room
        self._scores = scores
        self._tasks = tasks
        self._home = Home()

    async def monitor_run(
        self,
        run_id: str,
        service: ServiceBehaviour,
        metadata: Mapping[str, str] | None = None,
        *,
        client: Any = None,
        policy: RecoveryPolicy | None = None,
        rest: RestBehaviour | None = None,
    ) -> None:
        """Ask the server now and then whether ``run_id`` is corrupted, and recover it when it is.

        The recovered run is watched in its place. ``client`` is the training client that has the run, for
        ``on_recovery``; ``rest`` is asked, by default ``service.create_rest_client()``, whose error is raised.
        Watching a run again counts from then on. Raises RecoveryDisabled without a policy, InvalidInput, and
        ClosedError when the runtime has ended, or the Monitor has crashed too often.
        """
        await self._monitor(run_id, service, metadata, client=client, policy=policy, rest=rest)()

    def monitor_run_async(
        self,
        run_id: str,
        service: ServiceBehaviour,
        metadata: Mapping[str, str] | None = None,
        *,
        client: Any = None,
        policy: RecoveryPolicy | None = None,
        rest: RestBehaviour | None = None,
    ) -> Future[None]:
        """``monitor_run``, started at once in a task of the runtime's."""
        call = self._monitor(run_id, service, metadata, client=client, policy=policy, rest=rest)
        return self._tasks.start("monitor_run", call)

    def stop_monitoring(self, run_id: str) -> bool:
        """Watch ``run_id`` no more; False when it was not. A recovery that has begun goes on."""
        self._home.require("runtime.recovery")
        return self._room.watches.remove(text("run_id", run_id, _RUN)) is not None

    def monitored(self) -> tuple[str, ...]:
        """The runs that were put under watch, the oldest first; the runtime's own clients are not among them."""
        return tuple(watch.run_id for watch in self._room.watches.all())

    async def recover(
        self,
        run_id: str,
        service: ServiceBehaviour,
        metadata: Mapping[str, str] | None = None,
        *,
        checkpoint: str | None = None,
        client: Any = None,
        policy: RecoveryPolicy | None = None,
        rest: RestBehaviour | None = None,
        chooser: CheckpointChooser | None = None,
    ) -> RecoveredRun:
        """A training client that goes on where ``run_id`` was, once an attempt has made it.

        ``checkpoint``, a tinker path, stands for the run's newest one; ``chooser`` stands for the policy's choice.
        Cancelled, it recovers nothing, and leaves no client. Raises RecoveryDisabled without a policy,
        RecoveryPending when the run is being recovered, RecoveryFailed when it is given up, InvalidInput, and
        ClosedError when the runtime has ended, or the Executor has crashed too often.
        """
        order = self._recover(
            run_id,
            service,
            metadata,
            checkpoint=checkpoint,
            client=client,
            policy=policy,
            rest=rest,
            chooser=chooser,
        )
        return await order()

    def recover_async(
        self,
        run_id: str,
        service: ServiceBehaviour,
        metadata: Mapping[str, str] | None = None,
        *,
        checkpoint: str | None = None,
        client: Any = None,
        policy: RecoveryPolicy | None = None,
        rest: RestBehaviour | None = None,
        chooser: CheckpointChooser | None = None,
    ) -> Future[RecoveredRun]:
        """``recover``, started at once in a task of the runtime's."""
        order = self._recover(
            run_id,
            service,
            metadata,
            checkpoint=checkpoint,
            client=client,
            policy=policy,
            rest=rest,
            chooser=chooser,
        )
        return self._tasks.start("recover", order)

    def recoveries(self) -> tuple[RecoveryInfo, ...]:
        """The runs that are being recovered, in turn."""
        return tuple(
            RecoveryInfo(run_id=order.run_id, state=order.state, attempts=order.attempts)
            for order in self._room.queue.all()
        )

    def note_metrics(self, path: str, metrics: Mapping[str, float]) -> None:
        """The checkpoint ``path`` has these metrics, besides those of the result before it was saved.

        They say which is "best" (``RecoveryPolicy.best_metric``). Raises InvalidInput.
        """
        self._home.require("runtime.recovery")
        checkpoint_path(path, kind="weights")
        if not isinstance(metrics, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput("metrics", f"is of type {type(metrics).__name__}", "Give a dict of numbers by name")
        cure = "Give numbers"
        known = {text("metrics' keys", name, "Give names"): metrics[name] for name in metrics}
        self._scores.note(path, {name: number(f"metrics[{name!r}]", value, cure) for name, value in known.items()})

    @property
    def scores(self) -> Scores:
        """By which it is known which checkpoints are the best. Jobs carry them to their next process."""
        return self._scores

    def show_clients_as(self, present: Callable[[Any], Any]) -> None:
        """Give callbacks ``present(client)`` of each client. The blocking front calls it."""
        self._room.callbacks.present = present

    def _monitor(
        self, run_id: str, service: Any, metadata: Any, *, client: Any, policy: Any, rest: Any
    ) -> Callable[[], Awaitable[None]]:
        known, labels, chosen = self._checked(run_id, service, metadata, policy, rest)

        async def begin() -> None:
            self._room.require_open(known)
            asked = await service.create_rest_client() if rest is None else rest
            self._room.require_open(known)
            self._room.watches.add(
                Watch(known, service=service, rest=asked, policy=chosen, metadata=labels, client=client)
            )

        return begin

    def _recover(
        self,
        run_id: str,
        service: Any,
        metadata: Any,
        *,
        checkpoint: Any,
        client: Any,
        policy: Any,
        rest: Any,
        chooser: Any,
    ) -> Callable[[], Awaitable[RecoveredRun]]:
        known, labels, chosen = self._checked(run_id, service, metadata, policy, rest)
        if checkpoint is not None:
            checkpoint_path(checkpoint, kind="weights", field="checkpoint")
        if chooser is not None and not callable(getattr(chooser, "choose", None)):
            raise InvalidInput("chooser", f"is of type {type(chooser).__name__}", "Give a CheckpointChooser")

        async def begin() -> RecoveredRun:
            asked = await service.create_rest_client() if rest is None else rest
            order: Order = self._room.queue.submit(
                Wanted(
                    run_id=known,
                    service=service,
                    rest=asked,
                    policy=chosen,
                    chooser=chooser if chooser is not None else PolicyChooser(chosen, self._scores),
                    metadata=labels,
                    client=client,
                    checkpoint=checkpoint,
                )
            )
            try:
                return await order.outcome()
            except trio.Cancelled:
                if (made := order.made) is None:
                    self._room.queue.withdraw(order)
                elif chosen.on_recovery is None:
                    self._room.close(made.client)
                raise

        return begin

    def _checked(
        self, run_id: Any, service: Any, metadata: Any, policy: Any, rest: Any
    ) -> tuple[str, dict[str, str], RecoveryPolicy]:
        self._home.require("runtime.recovery")
        known = text("run_id", run_id, _RUN)
        if policy is not None and not isinstance(policy, RecoveryPolicy):
            raise InvalidInput("policy", f"is of type {type(policy).__name__}", "Give a RecoveryPolicy")
        chosen = policy if policy is not None else self._room.policy
        if chosen is None:
            raise RecoveryDisabled(
                f"run {known}: nothing was begun, since the configuration has recovery=False. Give a policy",
                run_id=known,
            )
        if not isinstance(service, ServiceBehaviour):
            raise InvalidInput(
                "service", f"is of type {type(service).__name__}", "Give a ServiceClient, or a ServiceBehaviour"
            )
        if rest is not None and not isinstance(rest, RestBehaviour):
            raise InvalidInput("rest", f"is of type {type(rest).__name__}", "Give a RestClient, or a RestBehaviour")
        return known, texts("metadata", metadata), chosen
