"""The queue of runs to be recovered: plain objects on the Executor's place, which a crash costs nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, final

import msgspec
import trio
from trio_util import AsyncValue

from supervision import SupervisedTask
from tinker_actors.config import RecoveryPolicy
from tinker_actors.errors import ClosedError, RecoveryPending, TinkerError
from tinker_actors.flow.pending import PendingEntry, PendingTable
from tinker_actors.recovery.behaviours import CheckpointChooser, RestBehaviour, ServiceBehaviour

__all__ = ["Order", "RecoveredRun", "RecoveryQueue", "RecoveryState", "Wanted", "model_id_of"]


class RecoveryState(StrEnum):
    """queued -> in_progress -> pending_retry -> queued ..., until the run is recovered, given up or withdrawn."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    PENDING_RETRY = "pending_retry"


class RecoveredRun(msgspec.Struct, frozen=True, kw_only=True):
    """Run ``run_id`` goes on in ``client``, from the tinker path ``checkpoint``, since attempt ``attempts``."""

    run_id: str
    client: Any
    checkpoint: str
    attempts: int


def model_id_of(client: object) -> str:
    """The run of ``client``, which a service of the user's may have made; empty where it does not say."""
    try:
        return str(getattr(client, "model_id", ""))
    except Exception:  # noqa: BLE001  # code of the user's
        return ""


class Wanted(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is to be recovered, with whose help, and how."""

    run_id: str
    service: ServiceBehaviour
    rest: RestBehaviour
    policy: RecoveryPolicy
    chooser: CheckpointChooser
    metadata: Mapping[str, str]
    client: Any
    """The one that had the run; None where there was none here."""
    checkpoint: str | None


@final
class Order:
    """One run's recovery, as far as it has come. Its queue and the Executor alone change it."""

    def __init__(self, wanted: Wanted, entry: PendingEntry) -> None:
        self.wanted = wanted
        self.entry = entry
        self.state = RecoveryState.QUEUED
        self.attempts = 0
        """Begun."""
        self.due = -math.inf
        self.task: SupervisedTask[RecoveredRun] | None = None
        """Of the latest attempt: it outlives the Executor's incarnation."""
        self.withdrawn = False
        self._outcome: RecoveredRun | TinkerError | None = None
        self._ended = trio.Event()

    @property
    def run_id(self) -> str:
        """The run that was lost."""
        return self.wanted.run_id

    @property
    def made(self) -> RecoveredRun | None:
        """The recovered run, once there is one."""
        return self._outcome if isinstance(self._outcome, RecoveredRun) else None

    def enter(self, state: RecoveryState, reason: str, *, expected: bool = False) -> None:
        """Be in ``state`` from now on."""
        self.state = state
        self.entry.enter(state, reason, expected=expected)

    def end(self, outcome: RecoveredRun | TinkerError) -> None:
        """This is what came of it."""
        self._outcome = outcome
        self._ended.set()

    async def outcome(self) -> RecoveredRun:
        """Wait for the end; raises why there is no recovered run."""
        await self._ended.wait()
        if isinstance(self._outcome, TinkerError):
            raise self._outcome
        assert self._outcome is not None
        return self._outcome


@final
class RecoveryQueue:
    """First come, first served; one order for a run. ``changed`` counts whatever the Executor has to look at."""

    def __init__(self, pending: PendingTable) -> None:
        self._pending = pending
        self._orders: dict[str, Order] = {}
        self._closed: str | None = None
        self.changed: AsyncValue[int] = AsyncValue(0)

    def submit(self, wanted: Wanted) -> Order:
        """Have a run recovered. Raises RecoveryPending for one that is being recovered, ClosedError when closed."""
        self.require_open(wanted.run_id)
        if (known := self._orders.get(wanted.run_id)) is not None:
            raise RecoveryPending(
                f"run {wanted.run_id} is being recovered already: {known.entry.snapshot()}", run_id=wanted.run_id
            )
        order = Order(wanted, self._pending.open(wanted.run_id, "recovery", RecoveryState.QUEUED))
        order.enter(RecoveryState.QUEUED, "behind the recoveries before it", expected=True)
        self._orders[wanted.run_id] = order
        self.touch()
        return order

    def withdraw(self, order: Order) -> None:
        """Nobody wants it any more; an attempt that is under way ends and gives its place back."""
        order.withdrawn = True
        if order.state is not RecoveryState.IN_PROGRESS:
            self.remove(order)
        elif order.task is not None:
            order.task.cancel("nobody waits for this recovery any more")

    def remove(self, order: Order) -> None:
        """It has come to its end."""
        if self._orders.get(order.run_id) is order:
            del self._orders[order.run_id]
        self._pending.close(order.entry)
        self.touch()

    def begin(self, order: Order, task: SupervisedTask[RecoveredRun]) -> None:
        """``task`` is the next attempt."""
        order.attempts += 1
        order.task = task
        order.enter(RecoveryState.IN_PROGRESS, f"attempt {order.attempts}", expected=True)

    def retry(self, order: Order, delay: float, why: str, *, counts: bool = True) -> None:
        """Another attempt, in ``delay`` seconds; it has the number of the last one where that does not count."""
        order.task = None
        order.attempts -= not counts
        order.due = trio.current_time() + delay
        order.enter(RecoveryState.PENDING_RETRY, f"attempt {order.attempts + 1} in {delay:.1f} s, since {why}")
        # who waits for a retry holds no place, and those that came meanwhile are not behind it
        self._orders[order.run_id] = self._orders.pop(order.run_id)
        self.touch()

    def in_progress(self) -> tuple[Order, ...]:
        """Those that hold a place: an attempt is under way, or its end has not been looked at."""
        return tuple(order for order in self._orders.values() if order.state is RecoveryState.IN_PROGRESS)

    def next(self) -> Order | None:
        """Whose turn it is: the first that waits for nothing else."""
        now = trio.current_time()
        waiting = (order for order in self._orders.values() if order.state is not RecoveryState.IN_PROGRESS)
        return next((order for order in waiting if order.due <= now), None)

    def next_due(self) -> float:
        """When the next retry is due; inf without any."""
        waiting = (order for order in self._orders.values() if order.state is RecoveryState.PENDING_RETRY)
        return min((order.due for order in waiting), default=math.inf)

    def find(self, run_id: str) -> Order | None:
        """The order of ``run_id``."""
        return self._orders.get(run_id)

    def all(self) -> tuple[Order, ...]:
        """Every order, in turn."""
        return tuple(self._orders.values())

    def require_open(self, run_id: str) -> None:
        """Raise ClosedError once nobody works the queue off any more."""
        if self._closed is not None:
            raise ClosedError(f"run {run_id} is not watched or recovered: {self._closed}")

    def close(self, why: str) -> None:
        """Nobody works it off any more: who waits hears of it."""
        self._closed = why
        for order in self.all():
            if order.task is not None:
                order.task.cancel(why)
            order.end(ClosedError(f"run {order.run_id} was not recovered: {why}"))
            self.remove(order)

    def touch(self) -> None:
        """The Executor is to look."""
        self.changed.value += 1
