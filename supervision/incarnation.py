"""One life of an actor: its task, from the factory to the end of terminate().

The order at the end is fixed: the call in hand fails, the actor's own tasks end, the supervisor judges, terminate()
runs, deferred replies fail, and only then the place hears of it and may begin the next incarnation. The actor's scope
shields it from the world around the system: an outer cancellation reaches it as an ordered shutdown (see system).
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable
from types import CoroutineType
from typing import TYPE_CHECKING, cast, final

import trio
from trio.lowlevel import checkpoint, current_task, wait_task_rescheduled

from supervision.actor import Actor, Handler
from supervision.context import Context
from supervision.crash import contains_fatal, is_cancellation, report_crash
from supervision.end import End, StopKind
from supervision.errors import ActorDown, ActorStopped, CrashReport, InvalidSpec, StopReason
from supervision.events import ActorCrashed, ActorEnded
from supervision.fate import CLOSE, HELD, Fate
from supervision.links import break_links
from supervision.mailbox import Again, OfIncarnation
from supervision.message import Cast
from supervision.monitor import Monitor
from supervision.reply import ReplyCell
from supervision.tasks import ActorTask
from supervision.watched import watched

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace
    from supervision.handshake import WaitEdge
    from supervision.timers import Timer

__all__: list[str] = []

_BATCH = 64  # messages handled per checkpoint


def check_actor(made: object, path: str) -> None:
    """Raises InvalidSpec if a factory made something else."""
    if not isinstance(made, Actor):
        raise InvalidSpec(f"{path}: the factory must return an Actor, it returned {type(made).__qualname__}")


@final
class Incarnation:
    """The state of one life; the place points to it while it lasts."""

    __slots__ = (
        "belongings",
        "cell",
        "deferred",
        "ended_with",
        "ending",
        "generator",
        "hand",
        "hand_since",
        "initialized",
        "number",
        "place",
        "redeliveries",
        "scope",
        "since",
        "stop",
        "task",
        "tasks",
        "waiting",
    )

    def __init__(self, place: ActorPlace, number: int) -> None:
        self.place = place
        self.number = number
        self.scope = trio.CancelScope(shield=True)
        self.task: trio.lowlevel.Task | None = None
        self.since = 0.0
        """When init() had finished."""
        self.initialized = False
        self.ending = False
        # what is in hand
        self.hand: object = None
        self.hand_since = 0.0
        self.cell: ReplyCell | None = None
        self.redeliveries: int | None = None
        self.waiting: WaitEdge | None = None
        """What the main task waits for, as an edge of the wait-for graph."""
        # what it has been asked
        self.stop: StopKind | None = None
        self.ended_with: End | None = None
        # what dies with it
        self.deferred: dict[ReplyCell, None] | None = None
        self.tasks: dict[ActorTask, None] | None = None
        self.belongings: dict[Timer | Monitor, None] | None = None
        """What is cancelled when it ends."""
        self.generator: random.Random | None = None

    @property
    def ends(self) -> End:
        if self.ended_with is None:
            self.ended_with = End()
        return self.ended_with

    # ---- the task

    async def run(self) -> None:
        """The whole life. One coroutine, not three: a parked frame less is 300 bytes less per idle actor."""
        place = self.place
        self.task = task = current_task()
        place.system.mains[task] = self
        caught: BaseException | None = None
        actor: Actor | None = None
        try:
            with self.scope:
                actor = place.spec.factory()
                check_actor(actor, place.path)
                actor.context = Context(self)
                kind = type(actor)
                handlers = kind.__handlers__
                if place.spec.busy_alarm is not None or place.system.watch is not None:
                    handlers = watched(self, handlers)
                place.handlers = handlers
                if kind.init is not Actor.init:
                    await actor.init()
                self.initialized = True
                if self.stop is None or self.stop == "normal":
                    place.started(self)
                inbox = self.place.inbox
                budget = _BATCH
                while self.stop is None:
                    if inbox.urgent:
                        item = inbox.urgent.popleft()
                    else:
                        items = inbox.items
                        if not items:
                            inbox.parked = self.task
                            await wait_task_rescheduled(inbox.abort_park)
                            budget = _BATCH
                            continue
                        item = items.popleft()
                        if type(item) is ReplyCell:
                            if item.done:
                                inbox.dead -= 1
                                continue
                            item.begun = True
                            self.cell = item
                            message = item.message
                            if inbox.line:
                                inbox.admit()
                            self.hand = message
                            handler = handlers.get(type(message)) or self._handler(message)
                            if handler is None:
                                continue
                            result = handler(actor, message)
                            if type(result) is CoroutineType:
                                self.hand_since = self.place.system.now()
                                result = await cast("Awaitable[object]", result)
                            self.hand = None
                            self.cell = None
                            if not item.deferred:
                                item.send(result)
                            budget -= 1
                            if not budget:
                                await checkpoint()
                                budget = _BATCH
                            continue
                        if inbox.line:
                            inbox.admit()
                        if type(item) is Again:
                            self.redeliveries = item.left
                            item = item.message
                        elif type(item) is OfIncarnation:
                            if item.incarnation != self.number:
                                continue
                            item = item.message
                    self.hand = item
                    handler = handlers.get(type(item)) or self._handler(item)
                    if handler is None:
                        continue
                    result = handler(actor, item)
                    if type(result) is CoroutineType:
                        self.hand_since = self.place.system.now()
                        await result
                    self.hand = None
                    self.redeliveries = None
                    budget -= 1
                    if not budget:
                        await checkpoint()
                        budget = _BATCH
        except BaseException as error:
            if isinstance(error, GeneratorExit):
                raise
            caught = error
        await self._end(caught, actor)

    def _handler(self, message: object) -> Handler | None:
        """For a subclass of a declared type; None, and the message is given up, if there is no handler."""
        handler = self.place.find_handler(type(message))
        if handler is None:
            cell, self.cell = self.cell, None
            self.hand = None
            self.place.give_up(message if cell is None else cell, "unknown")
        return handler

    # ---- the end

    async def _end(self, caught: BaseException | None, actor: Actor | None) -> None:
        place = self.place
        system = place.system
        self.ending = True
        if place.state != "stopping":
            place.enter("stopping")
        if caught is not None:
            self._note(caught)
        if self.ends.stop_timer is not None:
            self.ends.stop_timer.cancel()
        reason = self._reason()
        self._fail_hand(reason)
        if self.tasks:
            for task in tuple(self.tasks):
                task.cancel(reason=f"{place.path}#{self.number} ends")
            self.ends.tasks_ended = trio.Event()
            known = len(self.ends.errors or ())
            with trio.CancelScope(shield=True):
                await self.ends.tasks_ended.wait()
            if len(self.ends.errors or ()) != known:
                reason = self._reason()
        crash = reason.crash
        if crash is not None:
            self._fail_deferred(reason)
            place.last_crash = crash
            if system.events.active:
                system.events.emit(ActorCrashed(place.path, self.number, crash))
        fate = self._judge(reason)
        if fate.restarts:
            reason = StopReason(reason.kind, crash, reason.detail, restarting=True)
        if self.initialized and actor is not None and type(actor).terminate is not Actor.terminate:
            reason = await self._terminate(actor, reason)
        if self.deferred:
            self._fail_deferred(reason)
        for belonging in tuple(self.belongings or ()):
            belonging.cancel()
        if self.ends.links:
            break_links(self, reason)
        if place.inbox.urgent:
            place.inbox.urgent.clear()
        self.hand = None
        if self.task is not None:
            del system.mains[self.task]
        if system.events.active:
            system.events.emit(ActorEnded(place.path, self.number, reason))
        place.ended(self, reason, fate)
        if self.ends.stray is not None:
            raise self.ends.stray

    def _note(self, error: BaseException) -> None:
        """Sort one error that came out of a task of this actor, its own scope's Cancelled already stripped."""
        if isinstance(error, Exception):
            pass
        elif contains_fatal(error):
            # ^C and SystemExit are no crashes: the system shuts down in order and raises them.
            self.ends.fatal = True
            self.place.system.abort(error)
            return
        elif is_cancellation(error) and trio.current_effective_deadline() == -math.inf:
            self.ends.stray = error
            return
        if self.ends.errors is None:
            self.ends.errors = []
        self.ends.errors.append(error)

    def _reason(self) -> StopReason:
        errors = self.ends.errors
        if errors:
            if len(errors) == 1:
                error = errors[0]
            else:
                error = BaseExceptionGroup(f"{self.place.path} crashed in several tasks", errors)
            return StopReason("crash", self._report(error))
        if self.ends.killed:
            return StopReason("killed", None, self.ends.killed)
        if self.ends.fatal or self.ends.stray is not None:
            return StopReason("cancelled")
        return StopReason(self.stop or "normal")

    def _report(self, error: BaseException) -> CrashReport:
        place = self.place
        # At a first start the error itself is raised to the starter, with its traceback.
        return report_crash(
            error, place.path, self.number, place.system.now(), self.hand, strip=not self._first_start
        )

    @property
    def _first_start(self) -> bool:
        """Whether someone waits who is to get what init() raised."""
        handshake = self.place.handshake
        return not self.initialized and handshake is not None and handshake.kills

    def _judge(self, reason: StopReason) -> Fate:
        place = self.place
        if self.stop is not None and self.stop != "normal":
            return HELD if self.ends.restarting else CLOSE
        if self.ends.fatal or self.ends.stray is not None or self._first_start:
            return CLOSE
        return place.parent.judge(place, reason)

    async def _terminate(self, actor: Actor, reason: StopReason) -> StopReason:
        grace = self.place.spec.shutdown
        system = self.place.system
        scope = trio.CancelScope(shield=True, deadline=min(system.now() + grace, self.ends.hard))
        self.ends.terminate_scope = scope
        caught: BaseException | None = None
        try:
            with scope:
                await actor.terminate(reason)
        except BaseException as error:
            if isinstance(error, GeneratorExit):
                raise
            caught = error
        self.ends.terminate_scope = None
        detail = ""
        if scope.cancelled_caught:
            detail = "terminate() was cut off at its deadline"
        if caught is not None:
            if isinstance(caught, Exception):
                crash = report_crash(caught, self.place.path, self.number, system.now(), None, strip=True)
                self.place.last_crash = crash
                system.events.emit(ActorCrashed(self.place.path, self.number, crash))
                detail = f"terminate() raised {crash.text}"
            else:
                self._note(caught)
        if not detail:
            return reason
        detail = f"{reason.detail}; {detail}" if reason.detail else detail
        return StopReason(reason.kind, reason.crash, detail, reason.restarting)

    def _fail_hand(self, reason: StopReason) -> None:
        message = self.hand
        cell, self.cell = self.cell, None
        if cell is not None:
            if not cell.deferred and not cell.done:
                cell.fail(ActorDown(self.place.path, reason, begun=True))
        elif message is not None:
            left = self.redeliveries
            if left is None and isinstance(message, Cast):
                left = message.redeliver
            if left and reason.crash is not None:
                self.place.inbox.put_back(Again(message, left - 1))
            else:
                self.place.give_up(message, "in_hand" if self.redeliveries is None else "dead_letter")

    def _fail_deferred(self, reason: StopReason) -> None:
        deferred, self.deferred = self.deferred, None
        for cell in deferred or ():
            if not cell.done:
                cell.fail(ActorDown(self.place.path, reason, begun=True))

    # ---- being stopped

    def request_stop(self, kind: StopKind, hard: float, *, restarting: bool) -> None:
        """Idempotent; a later request can only tighten an earlier one."""
        place = self.place
        system = place.system
        self.ends.hard = min(self.ends.hard, hard)
        if self.stop is None or self.stop == "normal":
            self.stop = kind
            self.ends.restarting = restarting
        else:
            self.ends.restarting = self.ends.restarting and restarting
            if kind == "cancelled":
                self.stop = kind
        if self.ends.terminate_scope is not None:
            self.ends.terminate_scope.deadline = min(self.ends.terminate_scope.deadline, self.ends.hard)
        if self.ending:
            return
        if not self.initialized:
            self.scope.cancel(reason=f"{place.path} is stopped while it starts")
            return
        place.inbox.wake()
        now = system.now()
        deadline = now if system.hurrying else min(now + place.spec.shutdown, self.ends.hard)
        if self.ends.stop_timer is not None:
            self.ends.stop_timer.cancel()
        if deadline <= now:
            self._kill()
        elif deadline != math.inf:
            self.ends.stop_timer = system.timers.at(deadline, self._kill)

    def _kill(self) -> None:
        if self.ending:
            return
        if self.hand is not None:
            why = "the world around the system was cancelled" if self.stop == "cancelled" else "its grace was over"
            if self.stop != "cancelled":
                self.ends.killed = f"cancelled while handling {type(self.hand).__qualname__}: {why}"
        self.scope.cancel(reason=f"{self.place.path} is stopped")

    def abandon(self) -> None:
        """Whoever started it has left before init() had finished."""
        self.stop = "cancelled"
        self.ends.restarting = False
        self.scope.cancel(reason=f"the start of {self.place.path} was cancelled")

    # ---- what the actor does (see Context)

    def require_alive(self, what: str) -> None:
        """Raises ActorStopped."""
        if self.ending:
            raise ActorStopped(self.place.path, "ending", f"it can't {what} any more")

    def task_ended(self, task: ActorTask, caught: BaseException | None) -> None:
        assert self.tasks is not None
        self.tasks.pop(task, None)
        if caught is not None:
            self._note(caught)
            if not self.ending:
                self.scope.cancel(reason=f"its task {task.name} crashed")
        if not self.tasks and self.ends.tasks_ended is not None:
            self.ends.tasks_ended.set()

    def crash(self, error: Exception) -> None:
        """End by an error from outside."""
        self._note(error)
        self.scope.cancel(reason=f"{self.place.path} is to crash: {type(error).__name__}")

    def keep(self, belonging: Timer | Monitor) -> None:
        """Cancel it when this life ends."""
        if self.belongings is None:
            self.belongings = {}
        self.belongings[belonging] = None
        belonging.owner = self.belongings
