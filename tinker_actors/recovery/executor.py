"""The Executor: recovers runs into new clients, so many at a time, each in attempts that are supervised tasks."""

from __future__ import annotations

import logging
import math
from typing import final

import trio

from supervision import Actor, SupervisionError
from tinker_actors.errors import (
    APIStatusError,
    AuthenticationError,
    BillingError,
    ClosedError,
    InvalidInput,
    ModelLost,
    RecoveryFailed,
    RequestFailedError,
    TinkerError,
)
from tinker_actors.recovery.attempt import attempt
from tinker_actors.recovery.events import RecoveryCompleted, RecoveryExhausted, RecoveryFailure
from tinker_actors.recovery.queue import Order, RecoveredRun, model_id_of
from tinker_actors.recovery.room import RecoveryRoom

__all__ = ["Executor"]

_log = logging.getLogger("tinker_actors.recovery")

_JITTER = 0.25


@final
class Executor(Actor):
    """Works off the queue. A place is held by whatever is in progress, and by nothing else: whatever becomes of an
    attempt, or of this actor, its end is looked at by the incarnation that is there, and the place is free.
    """

    def __init__(self, room: RecoveryRoom) -> None:
        self._room = room
        self._queue = room.queue

    async def init(self) -> None:
        """Go on with the attempts that are under way."""
        for order in self._queue.in_progress():
            self._follow(order)
        self.context.start_task(self._work, name="work")

    async def _work(self) -> None:
        queue = self._queue
        while True:
            seen = queue.changed.value
            while self._has_room and (order := queue.next()) is not None:
                name = f"{order.run_id}-{order.attempts + 1}".replace("/", "-")
                run = self._room.attempts.start_nowait(attempt, order, order.attempts + 1, self._room, name=name)
                queue.begin(order, run)
                self._follow(order)
            # what is due while there is no room waits for that
            with trio.move_on_at(queue.next_due() if self._has_room else math.inf):
                while queue.changed.value == seen:
                    await queue.changed.wait_transition()  # pyright: ignore[reportUnknownMemberType]  # trio-util's own gap

    @property
    def _has_room(self) -> bool:
        return len(self._queue.in_progress()) < self._room.max_concurrent

    def _follow(self, order: Order) -> None:
        self.context.start_task(self._conclude, order, name=f"follow {order.run_id}")

    async def _conclude(self, order: Order) -> None:
        assert order.task is not None
        try:
            recovered = await order.task.result()
        except Exception as error:  # noqa: BLE001  # whatever ends an attempt, a service of the user's included
            if order.withdrawn:
                self._queue.remove(order)
            else:
                self._failed(order, error)
        else:
            if order.withdrawn:
                self._queue.remove(order)
                self._room.close(recovered.client)
            else:
                self._completed(order, recovered)

    # Each is one step: a crash comes before it or after it.

    def _completed(self, order: Order, recovered: RecoveredRun) -> None:
        room, wanted = self._room, order.wanted
        model_id = model_id_of(recovered.client)
        _log.warning("run %s goes on as %s from %s", order.run_id, model_id, recovered.checkpoint)
        self._queue.remove(order)
        room.metrics.add("recoveries_completed")
        room.watches.recovered(order.run_id, recovered.client, model_id)
        order.end(recovered)
        room.tell(
            RecoveryCompleted(
                self.context.path, order.run_id, wanted.metadata, order.attempts, model_id, recovered.checkpoint
            )
        )
        room.callbacks.on_recovery(wanted, recovered.client, recovered.checkpoint)

    def _failed(self, order: Order, error: Exception) -> None:
        room, wanted = self._room, order.wanted
        path, policy, number = self.context.path, wanted.policy, order.attempts
        permanent, refused = _permanent(error), isinstance(error, AuthenticationError)
        why = str(error) if isinstance(error, TinkerError) else f"{type(error).__name__}: {error}"
        _log.warning("attempt %d to recover run %s failed: %s", order.attempts, order.run_id, why)
        room.metrics.add("recovery_attempts_failed")
        last = permanent or (order.attempts >= policy.max_attempts and not refused)
        if last:
            self._queue.remove(order)
            room.metrics.add("recoveries_exhausted")
            room.watches.given_up(order.run_id)
            order.end(_given_up(order, error, why))
        else:
            delay = policy.delay(order.attempts) * self.context.random.uniform(1.0 - _JITTER, 1.0)
            self._queue.retry(order, delay, why, counts=not refused)
        room.tell(RecoveryFailure(path, order.run_id, wanted.metadata, number, why, permanent))
        if last:
            _log.error("run %s is given up: %s", order.run_id, why)
            room.tell(RecoveryExhausted(path, order.run_id, wanted.metadata, order.attempts, why))
            room.callbacks.on_failure(wanted, why)


def _permanent(error: Exception) -> bool:
    """Whether another attempt would come to the same."""
    match error:
        case SupervisionError():  # it was killed
            return False
        case InvalidInput() | RecoveryFailed() | ClosedError() | ModelLost():
            return True
        case AuthenticationError() | BillingError():  # the key may be renewed, the account filled
            return False
        case APIStatusError() | RequestFailedError():
            return error.category == "user"
        case _:
            return False


def _given_up(order: Order, error: Exception, why: str) -> RecoveryFailed:
    if isinstance(error, RecoveryFailed):
        text = str(error)
    else:
        attempts = "one attempt, which" if order.attempts == 1 else f"{order.attempts} attempts, the last of which"
        text = f"run {order.run_id} was not recovered in {attempts} failed: {why}"
    failed = RecoveryFailed(text, run_id=order.run_id, attempts=order.attempts)
    failed.__cause__ = error
    return failed
