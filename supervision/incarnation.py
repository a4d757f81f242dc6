"""One life of an actor: its task, from the factory to the end of terminate().

The system's nursery shields it from the world around: an outer cancellation reaches it as an ordered shutdown.
"""

from __future__ import annotations

import contextvars
import math
import random
from types import CoroutineType
from typing import TYPE_CHECKING, Any, final

import trio
from trio.lowlevel import checkpoint, current_task, enable_ki_protection, wait_task_rescheduled

from supervision.actor import Actor, Handler
from supervision.context import Context
from supervision.end import End, StopKind, end_life, note
from supervision.errors import ActorStopped, InvalidSpec
from supervision.handlers import take_handlers
from supervision.hibernation import Doze, hibernate
from supervision.leaving import Cancellable
from supervision.mailbox import Again, OfIncarnation, SetAside
from supervision.message import cancels_on_leave
from supervision.monitor import Monitor
from supervision.reply import ReplyCell
from supervision.tasks import ActorTask, is_closing

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace
    from supervision.handshake import WaitEdge
    from supervision.timers import Timer

__all__: list[str] = []

_BATCH = 64  # messages handled per checkpoint


def check_actor(made: object, path: str) -> None:
    """Raises InvalidSpec if a factory made something else, or gave what lives already."""
    if not isinstance(made, Actor):
        raise InvalidSpec(f"{path}: the factory must return an Actor, it returned {type(made).__qualname__}")
    # Not by its __dict__: an object that was asked for that once is 64 bytes bigger.
    if made.__life__ is not None and made.__life__.actor is made:
        raise InvalidSpec(
            f"{path}: the factory must make a new actor each time, it returned the one at {made.context.path}"
        )


@final
class Incarnation:
    """The state of one life; the place points to it while it lasts."""

    __slots__ = (
        "actor",
        "belongings",
        "cell",
        "deferred",
        "doze",
        "ended_with",
        "ending",
        "envelope",
        "generator",
        "hand",
        "hand_since",
        "initialized",
        "number",
        "place",
        "scope",
        "since",
        "stop",
        "task",
        "tasks",
        "variables",
        "waiting",
    )

    def __init__(self, place: ActorPlace, number: int) -> None:
        self.place = place
        self.number = number
        self.actor: Actor | None = None
        self.scope: trio.CancelScope | None = None
        """Around init(), and from the first handler on that waits for something."""
        self.task: trio.lowlevel.Task | None = None
        """None while it hibernates."""
        self.doze: Doze | None = None
        self.variables: contextvars.Context | None = None
        """The context variables that its next task begins with, if it has set any."""
        self.since = 0.0
        """When init() had finished."""
        self.initialized = False
        self.ending = False
        # what is in hand
        self.hand: object = None
        self.hand_since = 0.0
        self.cell: ReplyCell | None = None
        self.envelope: Again | OfIncarnation | SetAside | ReplyCell | None = None
        """What the cast in hand came in; SetAside once it is to be set aside; its cell once its reply is deferred."""
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

    @property
    def label(self) -> str:
        """The name of its task."""
        path = self.place.path
        return path if self.number == 1 else f"{path}#{self.number}"

    # ---- the task

    async def run(self) -> None:
        """The whole life, but for the time that it hibernates. One coroutine, not three: a parked frame less is 300
        bytes less per idle actor.
        """
        place = self.place
        self.task = current_task()
        place.system.mains[self.task] = self
        caught: BaseException | None = None
        try:
            if self.actor is None:
                actor = place.spec.factory()
                check_actor(actor, place.path)
                self.actor = actor
                actor.context = Context(self)
                actor.__life__ = self
                if actor.__first__ is not None:
                    place.inbox.offer_urgent(actor.__first__)
                handlers = take_handlers(self, actor)
                if type(actor).init is not Actor.init:
                    self.enter_scope()
                    await actor.init()
                    self.leave_scope()
                self.initialized = True
                if self.stop is None or self.stop == "normal":
                    place.started(self)
            else:
                actor = self.actor
                handlers = place.handlers
            hibernates = place.spec.hibernate_after
            if hibernates is not None:
                self.doze = Doze(self, hibernates)
            inbox = place.inbox
            budget = _BATCH
            while self.stop is None:
                # ^C may strike after any call made here. So a message leaves its queue only when it is in hand, with
                # no call between: whatever strikes then, its end is reported.
                queue = inbox.urgent
                if queue:
                    item = queue[0]
                else:
                    queue = inbox.items
                    if not queue:
                        if inbox.line and inbox.take():
                            continue
                        inbox.parked = self.task
                        if self.doze is not None:
                            self.doze.pause()
                        await wait_task_rescheduled(inbox.abort_park)
                        if self.doze is not None and hibernate(self):
                            return
                        budget = _BATCH
                        continue
                    item = queue[0]
                    if type(item) is ReplyCell:
                        if item.done:
                            del queue[0]
                            inbox.bury(1)
                            continue
                        item.begun = True
                        self.cell = item
                        self.hand = message = item.message
                        del queue[0]
                        if inbox.line:
                            inbox.admit()
                        handler = handlers.get(type(message)) or self._handler(message)
                        if handler is None:
                            continue
                        result: Any = handler(actor, message)
                        if result.__class__ is CoroutineType:
                            self.waits()
                            result = await result
                        self.hand = self.cell = None
                        if self.envelope is None:
                            item.send(result)
                        else:
                            self._put_down()
                        budget -= 1
                        if not budget:
                            await checkpoint()
                            budget = _BATCH
                        continue
                self.hand = item
                del queue[0]
                if inbox.line:
                    inbox.admit()
                handler = handlers.get(type(item))
                if handler is None:
                    handler = self._handler(item)
                    if handler is None:
                        continue
                    item = self.hand
                result = handler(actor, item)
                if result.__class__ is CoroutineType:
                    self.waits()
                    await result
                self.hand = None
                if self.envelope is not None:
                    self._put_down()
                budget -= 1
                if not budget:
                    await checkpoint()
                    budget = _BATCH
        except BaseException as error:  # sorted by end_life(); no call before it is protected
            if error.__class__ is GeneratorExit and is_closing(error, self.task):
                raise
            caught = error
        try:
            stray = await end_life(self, self._escaped(caught))
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  # the library's own, or of a user's Backoff: open_system raises it
            place.lost(self, error)
            return
        if stray is not None:
            raise stray

    @enable_ki_protection
    def _handler(self, item: object) -> Handler | None:
        """For a subclass of a declared type, or what comes in an envelope; None if it is not to be handled: it is not
        for this incarnation, or has no handler, and is given up.
        """
        message = item
        if isinstance(item, (Again, OfIncarnation)):
            if isinstance(item, OfIncarnation) and item.incarnation != self.number:
                self.hand = None
                return None
            self.envelope = item
            self.hand = message = item.message
        handler = self.place.find_handler(type(message))
        if handler is None:
            cell, self.cell = self.cell, None
            self.hand = self.envelope = None
            self.place.give_up(message if cell is None else cell, "unknown")
        elif cancels_on_leave(type(message)) and not isinstance(handler, Cancellable):
            assert self.actor is not None
            if not self.actor.__cancels_itself__:
                handler = Cancellable(self, handler)
        return handler

    @enable_ki_protection
    def _put_down(self) -> None:
        """After a handler whose message did not come, or does not go, as plainly as most."""
        envelope, self.envelope = self.envelope, None
        if type(envelope) is SetAside:
            inbox = self.place.inbox
            inbox.set_aside(envelope)
            if envelope.replay:
                inbox.replay()

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
            self.cut(f"{place.path} is stopped while it starts")
            return
        place.inbox.wake()
        now = system.now()
        deadline = now if system.hurrying else min(now + place.spec.shutdown, self.ends.hard, self.ends.grace)
        self.ends.grace = deadline
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
        self.cut(f"{self.place.path} is stopped")

    def abandon(self) -> None:
        """Whoever started it has left before init() had finished."""
        self.stop = "cancelled"
        self.ends.restarting = False
        self.cut(f"the start of {self.place.path} was cancelled")

    def cut(self, reason: str) -> None:
        """Cancel what its main task does, and may yet begin to do; it goes to its end."""
        if self.stop is None:
            self.stop = "normal"
        self.ends.cut = reason
        if self.scope is not None:
            self.scope.cancel(reason=reason)
        self.place.inbox.wake()

    @enable_ki_protection
    def enter_scope(self) -> None:
        """Called by the main task. Not as a `with` block: one that is open costs an idle actor 740 bytes."""
        scope = self.scope = trio.CancelScope()
        if self.ended_with is not None and self.ended_with.cut:
            scope.cancel(reason=self.ended_with.cut)
        scope.__enter__()

    @enable_ki_protection
    def waits(self) -> None:
        """The handler is one that may: it can be cancelled from here on."""
        if self.scope is None:
            self.enter_scope()
        self.hand_since = self.place.system.now()

    @enable_ki_protection
    def leave_scope(self) -> None:
        """Raises what trio thinks of a scope that was opened within and not left."""
        scope, self.scope = self.scope, None
        if scope is not None:
            scope.__exit__(None, None, None)

    @enable_ki_protection
    def _escaped(self, caught: BaseException | None) -> BaseException | None:
        """What remains of an error outside of the scope."""
        scope, self.scope = self.scope, None
        if scope is None:
            return caught
        try:
            within = (None, None, None) if caught is None else (type(caught), caught, caught.__traceback__)
            return None if scope.__exit__(*within) else caught
        except BaseException as rest:  # noqa: BLE001  # noted as what ended the life
            return rest

    # ---- what the actor does (see Context)

    def require_alive(self, what: str) -> None:
        """Raises ActorStopped, and WrongThread."""
        self.place.system.check_thread(self.place.path, f"the request to {what}")
        if self.ending:
            raise ActorStopped(self.place.path, "ending", f"it can't {what} any more")

    def task_ended(self, task: ActorTask, caught: BaseException | None) -> None:
        assert self.tasks is not None
        self.tasks.pop(task, None)
        if caught is not None:
            note(self, caught)
            if not self.ending:
                self.cut(f"its task {task.name} crashed")
        if not self.tasks:
            if self.ends.tasks_ended is not None:
                self.ends.tasks_ended.set()
            if self.doze is not None:
                self.doze.pause()

    def crash(self, error: Exception) -> None:
        """End by an error from outside."""
        note(self, error)
        self.cut(f"{self.place.path} is to crash: {type(error).__name__}")

    def keep(self, belonging: Timer | Monitor) -> None:
        """Cancel it when this life ends."""
        if self.belongings is None:
            self.belongings = {}
        self.belongings[belonging] = None
        belonging.owner = self.belongings
