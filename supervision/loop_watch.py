"""Who holds the loop, and whose steps cost how much of the processor. Opt-in: an instrument of trio's, installed
while its system is open.

Here, and nowhere else in the library, a real clock is read, and only to measure within one step of one task: trio's
clock is for waiting, and a virtual one stands still until the step is over. Tests inject both clocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, final

import msgspec
import trio

from supervision.doing import place_of
from supervision.errors import InvalidSpec
from supervision.events import LoopHeld
from supervision.quantities import number

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace
    from supervision.supervisor import SupervisorPlace
    from supervision.system import System

__all__ = ["StepClocks"]


class StepClocks(msgspec.Struct, frozen=True):
    """Two clocks, in seconds, that are read before and after a task's step: the time on the wall, and the time that
    this thread has had the processor.
    """

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.thread_time


def check_alarm(loop_alarm: float | None) -> None:
    """Raises InvalidSpec."""
    if loop_alarm is not None and not number(loop_alarm) > 0:
        raise InvalidSpec(f"open_system: loop_alarm must be above 0 seconds, or None, got {loop_alarm}")


@final
class LoopWatch(trio.abc.Instrument):
    """Measures every step of every task in this run of trio."""

    def __init__(self, system: System, alarm: float | None, *, cpu_time: bool, clocks: StepClocks) -> None:
        self._system = system
        self._alarm = alarm
        self.alarmed = alarm is not None
        self._clocks = clocks
        self._owners: dict[trio.lowlevel.Task, ActorPlace] = {}
        """Tasks that belong to an actor: its own, and what those started in nurseries."""
        self._next_owner: ActorPlace | None = None
        self._owner: ActorPlace | None = None
        """Of the task that is running."""
        self._hand: object = None
        """The message whose handler is running."""
        self._since = 0.0
        self._longest = 0.0
        self._held_by: object = None
        """The message whose handler has taken the longest in this step, and how long."""
        self._wall = 0.0
        self._cpu = 0.0
        self._seconds: dict[ActorPlace, float] | None = {} if cpu_time else None
        self._prune_at = 64

    def install(self) -> None:
        self._wall = self._since = self._clocks.wall()  # the step that installs us has begun without us
        trio.lowlevel.add_instrument(self)

    def remove(self) -> None:
        self._owners.clear()
        with suppress(KeyError):  # a hook of ours that raised: trio has logged it and removed us
            trio.lowlevel.remove_instrument(self)

    def owner_of_next(self, place: ActorPlace | None) -> None:
        """The next task that is spawned belongs to `place`."""
        self._next_owner = place

    def cpu_seconds(self, place: ActorPlace) -> float | None:
        """What the place has used, all its incarnations and their tasks together; None if that is not measured."""
        return None if self._seconds is None else self._seconds.get(place, 0.0)

    # ---- trio's hooks

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        owner, self._next_owner = self._next_owner, None
        if owner is None and task.parent_nursery is not None:
            owner = self._owners.get(task.parent_nursery.parent_task)
        if owner is not None:
            self._owners[task] = owner

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self._owners.pop(task, None)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        owner = self._owner = self._owners.get(task)  # now: trio tells of an exit before the last step is over
        if self._seconds is not None:
            self._cpu = self._clocks.cpu()
        if self._alarm is not None:
            life = None if owner is None else owner.life
            self._hand = None if life is None or life.task is not task else life.hand
            self._held_by = None
            self._longest = 0.0
            self._wall = self._since = self._clocks.wall()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        owner, self._owner = self._owner, None
        if self._seconds is not None and owner is not None:
            self._count(self._seconds, owner, self._clocks.cpu() - self._cpu)
        if self._alarm is not None:
            self.in_hand(None)
            held = self._since - self._wall
            if held >= self._alarm:
                self._report(task, owner, held)
            self._held_by = None

    def in_hand(self, message: object) -> None:
        """From now on this message's handler is running, or (None) no handler is."""
        now = self._clocks.wall()
        if now - self._since > self._longest:
            self._longest = now - self._since
            self._held_by = self._hand
        self._since = now
        self._hand = message

    def _report(self, task: trio.lowlevel.Task, owner: ActorPlace | None, held: float) -> None:
        path = task.name if owner is None else owner.path
        message_type = None if self._held_by is None else type(self._held_by).__qualname__
        self._system.events.emit(LoopHeld(path, task.name, held, place_of(task), message_type))

    def _count(self, seconds: dict[ActorPlace, float], owner: ActorPlace, used: float) -> None:
        known = seconds.get(owner)
        if known is None and len(seconds) >= self._prune_at:
            living = set(_actors_below(self._system.root)) | set(self._owners.values())
            for place in [place for place in seconds if place not in living]:
                del seconds[place]
            self._prune_at = 2 * len(seconds) + 64
        seconds[owner] = (known or 0.0) + used


def _actors_below(root: SupervisorPlace) -> list[ActorPlace]:
    """All places of actors in the tree, closed ones included."""
    from supervision.supervisor import SupervisorPlace

    found: list[ActorPlace] = []
    pending = [root]
    while pending:
        for place in pending.pop().children.values():
            if isinstance(place, SupervisorPlace):
                pending.append(place)
            else:
                found.append(place)
    return found
