"""Faults at steps of the scheduler: crashes of actors, cancelled callers, a held event loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import cast, final

import trio
from trio.testing import MockClock

from supervision import ActorRef, SupervisorRef
from supervision.context import Context
from tinker_actors.testing.faults.client import AtStep, BlockLoop, CancelCaller, CrashActor, KillRuntime
from tinker_actors.testing.faults.plan import Fault, FaultPlan, Fired
from tinker_actors.testing.faults.points import InjectedCrash

__all__ = ["PlannedSteps"]


@final
class PlannedSteps(trio.abc.Instrument):
    """An instrument of trio's that lets the faults of ``plan`` happen that are due at steps of the scheduler.

    Steps are counted from ``begin`` to ``end``.
    """

    def __init__(self, plan: FaultPlan) -> None:
        self._due: dict[int, list[AtStep]] = {}
        for fault in plan.faults:
            if isinstance(fault, AtStep):
                self._due.setdefault(fault.step, []).append(fault)
        self._root: SupervisorRef | None = None
        self._cancel: Callable[[], str | None] = _nobody
        self._kill: Callable[[], str | None] = _nobody
        self._fired: list[Fired] = []
        self.steps = 0
        """How many there were so far."""

    @property
    def fired(self) -> tuple[Fired, ...]:
        """What has happened so far, in order."""
        return tuple(self._fired)

    def begin(
        self, root: SupervisorRef, cancel: Callable[[], str | None], kill: Callable[[], str | None] | None = None
    ) -> None:
        """Count from now on. Actors are those below ``root``; ``cancel`` cancels a caller and ``kill`` the process,
        and each tells which.
        """
        self._root, self._cancel, self._kill = root, cancel, kill or _nobody

    def end(self) -> None:
        """Count no more."""
        self._root = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """For trio."""
        if self._root is None:
            return
        self.steps += 1
        for fault in self._due.pop(self.steps, ()):
            subject = self._act(fault, self._root)
            if subject is not None:
                at = trio.current_time()
                self._fired.append(Fired(fault=cast("Fault", fault), subject=subject, at=at, attempt=self.steps))

    def _act(self, fault: AtStep, root: SupervisorRef) -> str | None:
        """Let ``fault`` happen; to whom it did, None when there was nobody."""
        match fault:
            case CrashActor(actor=actor):
                return next((path for path in map(_crash, _actors(root, actor)) if path is not None), None)
            case CancelCaller():
                return self._cancel()
            case KillRuntime():
                return self._kill()
            case BlockLoop(seconds=seconds):
                clock = trio.lowlevel.current_clock()
                if isinstance(clock, MockClock):
                    clock.jump(seconds)
                else:
                    time.sleep(seconds)
                return "the event loop"
            case other:
                raise AssertionError(f"no rule for {other!r}")


def _nobody() -> None:
    return None


def _actors(root: SupervisorRef, end: str) -> Iterator[ActorRef]:
    for child in root.children().values():
        if isinstance(child, SupervisorRef):
            yield from _actors(child, end)
        elif child.path.endswith(end):
            yield child


def _crash(ref: ActorRef) -> str | None:
    """Whatever the actor is doing, an exception comes out of one of its tasks. None when it does not live."""
    life = ref.place.life
    if life is None or life.place.state != "running":
        return None

    async def fail() -> None:
        raise InjectedCrash(f"injected into {ref.path}")

    Context(life).start_task(fail, name="injected")
    return ref.path
