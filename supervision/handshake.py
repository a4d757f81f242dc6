"""Waiting for a start to have finished, and the wait-for edges of actors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, final

import trio
from outcome import Error, Outcome, capture
from trio.lowlevel import Abort, current_task, reschedule, wait_task_rescheduled

from supervision.errors import ActorStopped

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace
    from supervision.supervisor import SupervisorPlace

__all__: list[str] = []


class WaitEdge(Protocol):
    """The main task of an actor waits for `place`: for a reply, for room, or (for a supervisor's, for all below it)
    for a start. A deferred call is no edge: its answer comes from another task.
    """

    @property
    def place(self) -> ActorPlace | SupervisorPlace: ...
    @property
    def deferred(self) -> bool: ...


@final
class PlaceEdge:
    """An actor waits for a child's start, or for a task's end."""

    __slots__ = ("deferred", "place")

    def __init__(self, place: ActorPlace | SupervisorPlace) -> None:
        self.place = place
        self.deferred = False


@final
class Handshake:
    """Someone waits for init() to have finished. If `kills`, cancelling the waiter ends what it started, and the
    waiter leaves when that has ended.
    """

    __slots__ = ("_outcome", "_raise_cancel", "_task", "kills", "place")

    def __init__(self, place: ActorPlace | None, *, kills: bool) -> None:
        self.place = place
        self.kills = kills
        self._task: trio.lowlevel.Task | None = None
        self._outcome: Outcome[bool] | None = None
        self._raise_cancel: Callable[[], bool] | None = None

    async def wait(self) -> bool:
        """Whether it has started; raises what it was resolved with."""
        if self._outcome is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return self._outcome.unwrap()
        self._task = current_task()
        return await wait_task_rescheduled(self._abort)

    def _abort(self, raise_cancel: Callable[[], bool]) -> Abort:
        if not self.kills:
            self._task = None
            return Abort.SUCCEEDED
        self._raise_cancel = raise_cancel
        if self.place is not None and self.place.life is not None:
            self.place.life.abandon()
        return Abort.FAILED

    def resolve(self, outcome: Outcome[bool]) -> None:
        if self._raise_cancel is not None and not (
            isinstance(outcome, Error) and not isinstance(outcome.error, ActorStopped)
        ):
            outcome = capture(self._raise_cancel)  # an error of init()'s own goes before the Cancelled
        self._outcome = outcome
        task, self._task = self._task, None
        if task is not None:
            reschedule(task, outcome)
