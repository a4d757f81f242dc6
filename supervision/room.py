"""Bounded room with a line in front of it: first come, first served."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, final

from outcome import Error, Value
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from supervision.errors import CallCycle

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace
    from supervision.supervisor import SupervisorPlace

__all__: list[str] = []


@final
class RoomEdge:
    """The main task of an actor waits for room under a supervisor, that is for the end of any of its children. No
    plain edge, hence deferred: it is a wait for oneself only if all of them wait for the waiter.
    """

    __slots__ = ("deferred", "place")

    def __init__(self, place: SupervisorPlace) -> None:
        self.place = place
        self.deferred = True


@final
class Room:
    """Room for `limit` children of a supervisor; whoever took some gives it back once."""

    __slots__ = ("_line", "_taken", "limit", "supervisor")

    def __init__(self, supervisor: SupervisorPlace, limit: float) -> None:
        self.supervisor = supervisor
        self.limit = limit
        self._taken = 0
        self._line: OrderedDict[Task, None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    @property
    def crowded(self) -> bool:
        """Every bit of room is taken by a child that has begun: nobody who was let in is still on the way."""
        return self._taken == len(self.supervisor.children)

    def take_nowait(self) -> bool:
        """False if there is none, or if others wait for it."""
        if self._taken >= self.limit:
            return False
        self._taken += 1
        return True

    async def take(self) -> None:
        """Not a checkpoint, unless it waits. Raises CallCycle; and what refuse_all() was given."""
        if self.take_nowait():
            return
        task = current_task()
        caller = self.supervisor.system.mains.get(task)
        if caller is not None:
            if never_free(self.supervisor, caller.place):
                raise CallCycle((caller.place.path, self.supervisor.path), f"room in {self.supervisor.path}")
            caller.waiting = RoomEdge(self.supervisor)

        def leave(_raise_cancel: object) -> Abort:
            del self._line[task]
            return Abort.SUCCEEDED

        self._line[task] = None
        try:
            await wait_task_rescheduled(leave)
        finally:
            if caller is not None:
                caller.waiting = None

    def give_back(self) -> None:
        """Let the next one in."""
        if self._line:
            task, _ = self._line.popitem(last=False)
            reschedule(task, Value(None))  # the room passes on; from here on `task` can't be cancelled out of it
        else:
            self._taken -= 1

    def refuse_all(self, error: Callable[[], Exception]) -> None:
        """Whoever stands in line gets an error."""
        line, self._line = self._line, OrderedDict()
        for task in line:
            reschedule(task, Error(error()))


def never_free(supervisor: SupervisorPlace, me: ActorPlace, seen: set[SupervisorPlace] | None = None) -> bool:
    """Whether each child of a crowded supervisor waits, over however many edges, for `me` or for room like it."""
    seen = set() if seen is None else seen
    if supervisor in seen:
        return True
    seen.add(supervisor)
    keeper = supervisor.keeper
    if keeper is None or not keeper.room.crowded:
        return False
    return all(_waits_for(child, me, seen) for child in supervisor.children.values())


def _waits_for(place: ActorPlace | SupervisorPlace, me: ActorPlace, seen: set[SupervisorPlace]) -> bool:
    from supervision.actor_place import ActorPlace

    while place is not me:
        if not isinstance(place, ActorPlace):
            return me.is_below(place)  # it starts
        edge = None if place.life is None else place.life.waiting
        if isinstance(edge, RoomEdge):
            return never_free(edge.place, me, seen)
        if edge is None or edge.deferred:
            return False
        place = edge.place
    return True
