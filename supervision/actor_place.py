"""An actor's place: its mailbox, its names and its monitors, across all its incarnations. An ActorRef names one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, final

import trio
from outcome import Error, Value

from supervision.actor import Handler
from supervision.callbacks import call_back
from supervision.crash import report_crash
from supervision.doing import await_stack, doing
from supervision.end import StopKind
from supervision.errors import (
    ActorDown,
    ActorStopped,
    CallCycle,
    CrashReport,
    MailboxFull,
    StopReason,
    UnknownMessage,
)
from supervision.events import (
    ActorDegraded,
    ActorRestarted,
    ActorStarted,
    ActorStuck,
    PlaceClosed,
)
from supervision.fate import DONE, Fate
from supervision.handshake import Handshake
from supervision.incarnation import Incarnation
from supervision.mailbox import Inbox, WaitingCast, message_of
from supervision.message import Down, Own
from supervision.monitor import Monitor
from supervision.place import UP, Place
from supervision.ref import ActorRef
from supervision.reply import ReplyCell
from supervision.room import RoomEdge, never_free
from supervision.spec import ChildSpec
from supervision.undelivered import tell_undelivered

if TYPE_CHECKING:
    from supervision.supervisor import SupervisorPlace
    from supervision.system import System

__all__: list[str] = []

UNWINDING = 32
"""Passes of the loop that it has, past its last deadline, to come out of what was cancelled, before it is called
stuck. Not seconds: a brutal kill's deadline comes with the cancellation itself, and how long a pass takes is no fault
of the actor."""


@final
class ActorPlace(Place):
    """The place of an actor."""

    __slots__ = (
        "accepting",
        "calls",
        "casts",
        "handlers",
        "handshake",
        "inbox",
        "life",
        "limiter",
        "monitors",
        "parent",
        "spec",
    )

    def __init__(self, system: System, parent: SupervisorPlace, spec: ChildSpec) -> None:
        super().__init__(system, f"{parent.path}/{spec.name}")
        self.parent = parent
        self.spec = spec
        self.inbox = Inbox(spec.mailbox.capacity)
        self.handlers: dict[type, Handler] = {}
        self.calls: frozenset[type] = frozenset()
        self.casts: frozenset[type] = frozenset()
        self.life: Incarnation | None = None
        self.limiter: trio.CapacityLimiter | None = None
        """Of its threads, once there has been one."""
        self.accepting = True
        self.handshake: Handshake | None = None
        self.monitors: dict[Monitor, None] | None = None

    @property
    def ref(self) -> ActorRef:
        return ActorRef(self)

    @property
    def may_begin(self) -> bool:
        return self.parent.state in UP

    # ---- lives

    async def open(self) -> None:
        """The first start. Raises what init() raised, unwrapped; cancelled, it leaves nothing."""
        handshake = Handshake(self, kills=True)
        self.begin(handshake)
        await handshake.wait()

    def begin(self, handshake: Handshake | None = None) -> None:
        self.number += 1
        self.handshake = handshake
        self.life = life = Incarnation(self, self.number)
        self.enter("starting")
        self.system.spawn(life.run, name=life.label, place=self)

    def started(self, life: Incarnation) -> None:
        self.opening = False
        self.enter("running")
        life.since = self.since
        events = self.system.events
        if events.active:
            if self.number == 1:
                events.emit(ActorStarted(self.path, 1))
            else:
                events.emit(ActorRestarted(self.path, self.number))
        handshake, self.handshake = self.handshake, None
        if handshake is not None:
            handshake.resolve(Value(True))

    def ended(self, life: Incarnation, reason: StopReason, fate: Fate) -> None:
        """The incarnation is over, to its last step."""
        self.life = None
        # Still there only if this life never got through init().
        handshake, self.handshake = self.handshake, None
        kind = fate.kind
        if life.stop is not None and life.stop != "normal" and (fate.restarts or not life.ends.restarting):
            # A stop came after the verdict.
            kind = "held" if life.ends.restarting else "close"
        if kind in {"close", "done", "degrade"}:
            self.close("degraded" if kind == "degrade" else "stopped", reason, fate.history)
            if fate is DONE:
                self.parent.significant_ended(self)
        else:
            if self.spec.mailbox.on_restart == "drop":
                for item in self.inbox.drain():
                    self.give_up(item, "dropped", reason)
                self.inbox.admit()
            else:
                self.inbox.replay()
            self._fire_monitors(reason)
            self.system.restarts += 1
            if kind == "held":
                self.enter("down")
            else:
                self.schedule_restart(fate.delay)
        if handshake is not None:
            crash = reason.crash
            if not handshake.kills:
                handshake.resolve(Value(False))
            elif crash is not None:
                handshake.resolve(Error(crash.error))
            else:
                handshake.resolve(Error(ActorStopped(self.path, "stopped", "it was stopped while it started")))
        self.signal_down()

    def lost(self, life: Incarnation, error: BaseException) -> None:
        """The end of its life has failed, which nobody can mend: the system ends, in order, and raises it."""
        system = self.system
        system.abort(error)
        if life.task is not None:
            system.mains.pop(life.task, None)
        self.life = None
        handshake, self.handshake = self.handshake, None
        if handshake is not None:
            handshake.resolve(Error(error))
        self.signal_down()
        self.close("stopped", StopReason("crash", report_crash(error, self.path, life.number, system.now(), None)))

    def close(self, state: str, reason: StopReason, history: tuple[CrashReport, ...] = ()) -> None:
        """No more incarnations, unless someone revives it."""
        if self.closed is not None:
            return
        self.cancel_restart()
        self.enter(state)
        self.closed = reason
        self.accepting = False
        self.system.registry.forget(self)
        for item in self.inbox.drain():
            self.give_up(item, "closed", reason)
        for entry in self.inbox.drain_line():
            if isinstance(entry, ReplyCell):
                self.give_up(entry, "closed", reason)
            else:
                entry.refused = True
                entry.wake()
        self._fire_monitors(reason)
        events = self.system.events
        if state == "degraded":
            events.emit(ActorDegraded(self.path, history))
        events.emit(PlaceClosed(self.path, reason))
        if self.spec.on_close is not None:
            call_back(self, "on_close", self.spec.on_close, reason)
        self.parent.child_closed(self)

    def request_stop(self, kind: StopKind, hard: float, *, restarting: bool) -> None:
        """Ask the present incarnation to end; without one, the place is closed or held at once."""
        restarting = restarting and not self.opening and self.spec.restart != "temporary"
        if self.closed is not None:
            return
        if not restarting:
            self.accepting = False
        if self.life is not None:
            if self.state != "stopping":
                self.enter("stopping")
            self.life.request_stop(kind, hard, restarting=restarting)
            return
        self.cancel_restart()
        if restarting:
            self.enter("down")
        else:
            self.close("stopped", StopReason(kind))

    async def revive(self) -> None:
        """Start again on the user's word; raises what init() raised, and the place is closed then."""
        self.reopen()
        await self.open()

    def reopen(self) -> None:
        """A closed place forgets its past and may begin again."""
        self.closed = None
        self.accepting = True
        self.attempt = 0
        self.window = None

    @property
    def up_since(self) -> float | None:
        """When the present incarnation's init() had finished."""
        life = self.life
        return life.since if life is not None and life.initialized else None

    async def wait_down(self, *, past_stuck: bool = False) -> None:
        """Until there is no incarnation. Past its last deadline it is reported as stuck, and waited for (or not)."""
        life = self.life
        if life is None:
            return
        if self.down_event is None:
            self.down_event = trio.Event()
        event = self.down_event
        grace = 2 * self.spec.shutdown
        deadline = min(self.system.now() + grace, life.ends.hard)
        with trio.CancelScope(deadline=deadline):
            await event.wait()
        terminating = life.ends.terminate_scope
        if self.life is life and terminating is not None:  # its time counts from when it began
            with trio.CancelScope(deadline=terminating.deadline):
                await event.wait()
        for _ in range(UNWINDING):
            if self.life is not life:
                return
            await trio.lowlevel.checkpoint()
        if self.life is life:
            if not life.ends.stuck:
                life.ends.stuck = True
                self.system.events.emit(ActorStuck(self.path, life.number, await_stack(life.task)))
            if not past_stuck:
                await event.wait()

    # ---- messages

    def find_handler(self, message_type: type) -> Handler | None:
        handlers = self.handlers
        for base in message_type.__mro__:
            handler = handlers.get(base)
            if handler is not None:
                return handler
        return None

    def require_handler(self, message_type: type) -> None:
        """Raises UnknownMessage."""
        if self.find_handler(message_type) is None:
            raise UnknownMessage(self.path, message_type, self.handled())

    def handled(self) -> list[str]:
        """The names of the types that it has handlers for."""
        return [kind.__qualname__ for kind in self.handlers if not issubclass(kind, Own)]

    def overflow(self, message: object, entry: ReplyCell | WaitingCast | None) -> None:
        """There is no room: stand in line, drop, or raise MailboxFull."""
        policy = self.spec.mailbox.when_full
        item = entry if isinstance(entry, ReplyCell) else message
        if policy == "drop_oldest":
            # More than one if the bound is exceeded by one that was put back.
            while not self.inbox.offer(item):
                self.give_up(self.inbox.drop_oldest(), "dropped")
        elif policy == "reject" or entry is None:
            if not self.inbox.hand_over(item):
                raise MailboxFull(self.path, message, self.spec.mailbox.capacity)
        else:
            self.inbox.stand_in_line(entry)

    def give_up(self, item: object, why: str, reason: StopReason | None = None) -> None:
        """An accepted message that will not be handled: its caller hears of it, and so do listeners."""
        if isinstance(item, ReplyCell):
            if why == "dropped" and reason is None:
                item.fail(MailboxFull(self.path, item.message, self.spec.mailbox.capacity, "dropped to make room"))
            elif why == "unknown":
                item.fail(UnknownMessage(self.path, type(item.message), self.handled()))
            else:
                item.fail(ActorDown(self.path, reason or StopReason("shutdown"), begun=False))
            return
        self.system.undelivered += 1
        tell_undelivered(self, message_of(item), why)

    # ---- watching

    def add_monitor(self, callback: Callable[[Down], object]) -> Monitor:
        monitor = Monitor(self, callback)
        if self.closed is not None:
            monitor.fire(Down(self.path, self.number, self.closed))
            return monitor
        if self.monitors is None:
            self.monitors = {}
        self.monitors[monitor] = None
        return monitor

    def _fire_monitors(self, reason: StopReason) -> None:
        monitors, self.monitors = self.monitors, None
        for monitor in monitors or ():
            call_back(self, "a monitor", monitor.fire, Down(self.path, self.number, reason))

    # ---- deadlocks

    def check_cycle(self, caller: Incarnation, message: object) -> None:
        """Raises CallCycle if this place waits, over however many edges, for the caller."""
        me = caller.place
        chain = [me.path, self.path]
        place: ActorPlace = self
        while place is not me:
            life = place.life
            edge = None if life is None else life.waiting
            if edge is None or edge.deferred:
                if not isinstance(edge, RoomEdge) or not never_free(edge.place, me):
                    return
                chain.append(edge.place.path)
                break
            waited = edge.place
            chain.append(waited.path)
            if not isinstance(waited, ActorPlace):
                if me.is_below(waited):
                    break
                return
            place = waited
        raise CallCycle(chain, message)

    def is_below(self, other: Place) -> bool:
        supervisor: SupervisorPlace | None = self.parent
        while supervisor is not None:
            if supervisor is other:
                return True
            supervisor = supervisor.parent
        return False

    def doing(self) -> str:
        if self.life is not None:
            return doing(self.life)
        state = "waiting for its restart" if self.state == "waiting" else self.state
        return f"has been {state} for {self.system.now() - self.since:.3g} s"
