"""What an actor knows of itself: its address, and what it may do only while it lives."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack, final

from trio.lowlevel import current_task

from supervision.checks import check_kind
from supervision.errors import CannotDefer, InvalidSpec, NotInCall
from supervision.links import link, unlink
from supervision.mailbox import OfIncarnation, SetAside
from supervision.message import Cast, Down, Own
from supervision.reply import Reply, ReplyCell
from supervision.tasks import ActorTask
from supervision.threads import run_in_thread
from supervision.timers import Timer

if TYPE_CHECKING:
    from supervision.incarnation import Incarnation
    from supervision.monitor import Monitor
    from supervision.ref import ActorRef, SupervisorRef
    from supervision.system import ActorSystem

__all__ = ["Context"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@final
class Context:
    """`self.context` in an actor; one per incarnation."""

    __slots__ = ("_life",)

    def __init__(self, life: Incarnation) -> None:
        self._life = life

    @property
    def ref(self) -> ActorRef:
        """The actor's own address; it outlives this incarnation."""
        return self._life.place.ref

    @property
    def name(self) -> str:
        """The child's name."""
        return self._life.place.name

    @property
    def path(self) -> str:
        """Names from the system down, joined by '/'."""
        return self._life.place.path

    @property
    def incarnation(self) -> int:
        """1 for the first, counted up with each restart."""
        return self._life.number

    @property
    def system(self) -> ActorSystem:
        """The system this actor lives in."""
        return self._life.place.system.facade

    @property
    def supervisor(self) -> SupervisorRef:
        """The actor's supervisor: for siblings."""
        return self._life.place.parent.ref

    @property
    def random(self) -> random.Random:
        """A generator of this incarnation's own, seeded from the system's."""
        life = self._life
        if life.generator is None:
            life.generator = random.Random(life.place.system.random.getrandbits(64))
        return life.generator

    def start_task(
        self, function: Callable[[Unpack[Ts]], Awaitable[object]], *args: *Ts, name: str | None = None
    ) -> ActorTask:
        """Run `function(*args)` in a task that dies with this incarnation and whose crash is the actor's.

        Such tasks are cancelled, and have ended, before terminate() runs. Raises ActorStopped once the incarnation
        is ending; where one of its tasks lets that pass, it is no crash.
        """
        life = self._life
        life.require_alive("start a task")
        label = name if name is not None else getattr(function, "__name__", "task")
        task = ActorTask(life, label)
        if life.tasks is None:
            life.tasks = {}
        life.tasks[task] = None
        name = f"{self.path}#{life.number}/{label}"
        life.place.system.spawn(task.run, function, args, name=name, place=life.place)
        return task

    async def run_in_thread(self, function: Callable[[Unpack[Ts]], T], *args: *Ts, abandon: bool = False) -> T:
        """Run `function(*args)` in a worker thread and give back, or raise, what it does; meanwhile the loop is free.

        At most ChildSpec.threads run for this actor at a time; who comes later waits in line, and may be cancelled
        there. trio can't stop a thread. By default a cancelled handler waits for its thread's end, and past its grace
        is reported as ActorStuck. With `abandon` it leaves at once, and the thread goes on by itself: what it gives
        is dropped, and it takes up its room, in the next incarnation as well, until it has ended. Under a virtual
        clock nothing knows that a thread is at work: time jumps ahead. What the function wants of actors meanwhile it
        asks for by trio.from_thread.run_sync(ref.cast_nowait, message) or trio.from_thread.run(ref.call, message);
        without that, WrongThread is raised.
        """
        return await run_in_thread(self._life.place, function, args, abandon=abandon)

    def defer_reply(self) -> Reply[Any]:
        """Take over the reply of the call in hand; the handler's return value counts no more. Raises NotInCall."""
        life = self._life
        cell = life.cell
        if cell is None:
            raise NotInCall(
                f"{self.path}: defer_reply() belongs in the handler of a Call, once; "
                f"in hand: {'nothing' if life.hand is None else type(life.hand).__qualname__}"
            )
        life.cell = None
        life.envelope = cell
        cell.deferred = True
        if life.deferred is None:
            life.deferred = {}
        life.deferred[cell] = None
        return Reply(cell, life)

    def defer(self) -> None:
        """Set the message in hand aside once its handler has returned (what that returns counts no more), to be
        handled anew after replay_deferred().

        What is set aside counts against the mailbox's capacity: leave room for the message that ends the wait. A
        call whose caller leaves is withdrawn. At a restart all of it goes back to the front of the queue (unless
        on_restart is "drop"); a handler that raises after defer() has had its message, as always. Raises CannotDefer
        outside a handler, for the second time, or after defer_reply().
        """
        life = self._life
        envelope = life.envelope
        hand = life.hand
        wrong = ""
        if hand is None or life.ending or current_task() is not life.task:
            wrong = "no handler of a message is running in this task"
        elif isinstance(hand, Own):
            wrong = f"a {type(hand).__qualname__} is for now or never"
        elif isinstance(envelope, SetAside):
            wrong = f"this {type(hand).__qualname__} has been deferred already"
        elif isinstance(envelope, ReplyCell):
            wrong = f"the reply to this {type(hand).__qualname__} was taken by defer_reply()"
        if wrong:
            raise CannotDefer(f"{self.path}: defer() belongs in the handler of a message, once: {wrong}")
        if isinstance(hand, Down):
            # Like a timer's message, it is meant for the incarnation that monitors.
            envelope = OfIncarnation(hand, life.number)
        cell, life.cell = life.cell, None
        life.envelope = SetAside(cell or envelope or hand)

    def replay_deferred(self) -> None:
        """Put all that defer() has set aside, the message in hand included, back at the front of the queue, in
        order. Raises ActorStopped once the incarnation is ending (a restart does it anyway).
        """
        life = self._life
        life.require_alive("replay what it has set aside")
        if isinstance(life.envelope, SetAside):
            life.envelope.replay = True
        else:
            life.place.inbox.replay()

    def send_after(self, delay: float, message: Cast) -> Timer:
        """Cast `message` to oneself after `delay` seconds. A timer never reaches a later incarnation; if the
        mailbox is full then, the message is reported as undelivered. Raises UnknownMessage, WrongMessageKind,
        InvalidSpec.
        """
        life = self._life
        place = life.place
        life.require_alive("set a timer")
        if not delay >= 0:
            raise InvalidSpec(f"{self.path}: send_after: the delay must be at least 0 seconds, got {delay}")
        check_kind(place, message, Cast, "send_after()")
        place.require_handler(type(message))

        def fire() -> None:
            mine = OfIncarnation(message, life.number)
            if not place.inbox.offer(mine) and not place.inbox.hand_over(mine):
                place.give_up(message, "dropped")

        timer = place.system.timers.after(delay, fire)
        life.keep(timer)
        return timer

    def monitor(self, ref: ActorRef) -> Monitor:
        """Get a Down message when the other's present incarnation (or, while it restarts, the next one) has ended;
        at once if there is and will be none. Raises UnknownMessage if this actor has no @handles(Down).
        """
        life = self._life
        life.require_alive("monitor")
        if Down not in life.place.handlers:
            life.place.require_handler(Down)
        monitor = ref.place.add_monitor(life.place.inbox.offer_urgent)
        if monitor.active:
            life.keep(monitor)
        return monitor

    def link(self, ref: ActorRef) -> None:
        """Tie this incarnation to the other's present one: when either crashes or is killed, the other ends as well,
        as a crash with LinkBroken, and each one's supervisor does what it does after a crash. An end in order breaks
        the link silently, and nobody is crashed who is being stopped anyway. Idempotent, and the same from both
        sides. The next incarnations are not linked. There is no trap_exit: to hear of an end and live on, monitor.

        Raises NotRunning if the other has no incarnation now, or one that is ending; ActorStopped if this one is.
        """
        link(self._life, ref)

    def unlink(self, ref: ActorRef) -> None:
        """Untie this incarnation from the other's. Idempotent."""
        unlink(self._life, ref)

    def register(self, name: str) -> None:
        """Give this place a name in the system's registry, until it closes. Idempotent. Raises NameTaken."""
        self._life.place.system.registry.register(name, self._life.place.ref)

    def join(self, group: str) -> None:
        """Make this place a member of a group, until it leaves or closes. Idempotent. Raises InvalidSpec."""
        self._life.place.system.registry.join(group, self._life.place.ref)

    def leave(self, group: str) -> None:
        """End this place's membership of a group. Idempotent."""
        self._life.place.system.registry.leave(group, self._life.place.ref)

    def stop(self) -> None:
        """End by one's own will (reason "normal") when the present handler has returned. Raises WrongThread."""
        life = self._life
        life.place.system.check_thread(self.path, "stop()")
        if life.stop is None:
            life.stop = "normal"
            life.place.inbox.wake()

    def __repr__(self) -> str:
        return f"<Context {self.path}#{self.incarnation}>"
