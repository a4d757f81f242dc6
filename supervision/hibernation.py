"""Hibernation (opt-in, ChildSpec.hibernate_after): an idle actor's task ends, and begins again with the next message.

What makes the actor is kept: its object, its context, its timers and monitors, what it has set aside, the replies it
owes. What belongs to a task is not: the cancel scope of its handlers, and trio's idea of the current task.
"""

from __future__ import annotations

from contextvars import Context as Variables
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from supervision.incarnation import Incarnation

__all__: list[str] = []


@final
class Doze:
    """Notes since when an actor is idle. An entry of the timer heap, one at a time: it is put in anew when it has
    come too early, not each time the actor pauses.
    """

    __slots__ = ("_after", "_life", "_since", "done", "due")

    def __init__(self, life: Incarnation, after: float) -> None:
        self._life = life
        self._after = after
        self._since = 0.0
        self.done = True
        """Not in the heap."""
        self.due = False
        """Its task has been woken to end."""

    def pause(self) -> None:
        """The actor is idle from now on."""
        self._since = self._life.place.system.now()
        if self.done:
            self._arm(self._since + self._after)

    def _arm(self, deadline: float) -> None:
        self.done = False
        self._life.place.system.timers.add(deadline, self)

    def expire(self) -> None:
        """Called by the timer task."""
        self.cancel()
        life = self._life
        inbox = life.place.inbox
        if life.task is None or inbox.parked is not life.task or life.tasks:
            return  # pause() comes when it is idle again
        if life.place.system.now() < self._since + self._after:
            self._arm(self._since + self._after)
        else:
            self.due = True
            inbox.wake()

    def cancel(self) -> None:
        """Idempotent."""
        if not self.done:
            self.done = True
            self._life.place.system.timers.live -= 1


def hibernate(life: Incarnation) -> bool:
    """Called by the task of an actor that was woken: True if it is to end, and the actor hibernates."""
    doze, inbox, task = life.doze, life.place.inbox, life.task
    if doze is None or not doze.due:
        return False
    doze.due = False
    if task is None or life.stop is not None or inbox.items or inbox.urgent or inbox.expected or life.tasks:
        return False
    system = life.place.system
    if not _same(task.context, system.variables):
        life.variables = task.context
    life.leave_scope()
    del system.mains[task]
    system.hibernated += 1
    life.task = life.doze = None
    inbox.hibernate(life)
    return True


def resume(life: Incarnation) -> None:
    """Something has come for an actor that hibernates: give it a task again."""
    place = life.place
    place.system.hibernated -= 1
    variables, life.variables = life.variables, None
    place.system.spawn(life.run, name=life.label, place=place, variables=variables)


def _same(one: Variables, other: Variables) -> bool:
    """By identity: a variable's value may not like to be compared."""
    return len(one) == len(other) and all(other.get(variable) is value for variable, value in one.items())
