"""Supervisors. A supervisor is data, not a task: it judges synchronously, in the last steps of a child that has
ended, and starts a task only for what takes time (stopping and starting several children in order).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

import trio
from outcome import Value
from trio.lowlevel import enable_ki_protection

from supervision.actor_place import ActorPlace
from supervision.auto_shutdown import auto_shut_down, renew
from supervision.end import StopKind
from supervision.errors import (
    CrashReport,
    IntensityExceeded,
    StopReason,
)
from supervision.events import (
    ActorCrashed,
    ActorDegraded,
    ActorEnded,
    ActorRestarted,
    ActorStarted,
    PlaceClosed,
    SupervisorGaveUp,
)
from supervision.fate import CLOSE, DONE, HELD, Fate
from supervision.front import front_of
from supervision.group_restart import Group
from supervision.handshake import Handshake
from supervision.place import UP, Place
from supervision.spec import (
    AnySpec,
    AnySupervisorSpec,
    AutoShutdownMode,
    ChildSpec,
    DynamicSupervisorSpec,
    SupervisorSpec,
)
from supervision.window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervision.system import System

__all__: list[str] = []


@final
class SupervisorPlace(Place):
    """The place of a supervisor: its children, in start order."""

    __slots__ = (
        "anew",
        "children",
        "dynamic",
        "failure",
        "fate",
        "fixed",
        "group",
        "handshake",
        "hard",
        "keeper",
        "op_scope",
        "open_scope",
        "parent",
        "ref",
        "restarting",
        "significant_end",
        "spec",
        "stop_kind",
        "strategy",
        "why",
    )

    def __init__(self, system: System, parent: SupervisorPlace | None, spec: AnySupervisorSpec) -> None:
        super().__init__(system, spec.name if parent is None else f"{parent.path}/{spec.name}")
        self.parent = parent
        self.spec, self.ref, self.fixed, self.keeper = front_of(self, spec)
        self.dynamic = isinstance(self.spec, DynamicSupervisorSpec)
        self.strategy = self.spec.strategy if isinstance(self.spec, SupervisorSpec) else "one_for_one"
        self.children: dict[str, ActorPlace | SupervisorPlace] = {}
        self.handshake: Handshake | None = None
        self.open_scope: trio.CancelScope | None = None
        self.failure: BaseException | None = None
        """Why the first start failed, if it was by too many restarts."""
        self.group = Group(self)
        self.significant_end: str | None = None
        """The path of a significant child that ended while this supervisor started."""
        self.anew = True
        """The next start begins all children of the spec, not only those that live."""
        self.op_scope: trio.CancelScope | None = None
        # going down
        self.fate: Fate | None = None
        self.stop_kind: StopKind = "shutdown"
        self.why: StopReason | None = None
        """If it ends by itself."""
        self.restarting = False
        self.hard = math.inf

    @property
    def up(self) -> bool:
        return self.state in UP

    @property
    def may_begin(self) -> bool:
        return self.parent is None or self.parent.up

    @property
    def auto_shutdown(self) -> AutoShutdownMode:
        return self.spec.auto_shutdown if isinstance(self.spec, SupervisorSpec) else "never"

    # ---- start

    async def open(self) -> None:
        """The first start: children in order. Raises what an init() raised, with everything stopped again."""
        self.number += 1
        self.anew = False
        self.significant_end = None
        try:
            with trio.CancelScope() as self.open_scope:
                for spec in self.specs:
                    await self.add(spec).open()
            if not self.up:
                raise self.failure or self.not_running()
        except BaseException:
            self.request_stop("shutdown", math.inf, restarting=False)
            with trio.CancelScope(shield=True):
                await self.wait_down()
            raise
        finally:
            self.open_scope = None
        self.opening = False
        self.enter("running")
        self.system.events.emit(ActorStarted(self.path, self.number))
        if self.significant_end is not None:
            auto_shut_down(self, self.significant_end)

    async def revive(self) -> None:
        """Start again on the user's word."""
        if self.closed is None:
            handshake = Handshake(None, kills=False)
            self.begin(handshake)
            await handshake.wait()
            return
        self.reopen()
        self.enter("starting")
        await self.open()

    def reopen(self) -> None:
        """A closed place forgets its past and may begin again, with all children of its spec."""
        self.closed = None
        self.failure = None
        self.fate = None
        self.hard = math.inf
        self.attempt = 0
        self.window = None
        self.children.clear()
        self.anew = True

    @property
    def specs(self) -> Sequence[AnySpec]:
        return self.spec.children if isinstance(self.spec, SupervisorSpec) else ()

    def add(self, spec: AnySpec) -> ActorPlace | SupervisorPlace:
        place: ActorPlace | SupervisorPlace
        if isinstance(spec, AnySupervisorSpec):
            place = SupervisorPlace(self.system, self, spec)
        else:
            place = ActorPlace(self.system, self, spec)
        self.children[spec.name] = place
        return place

    def begin(self, handshake: Handshake | None = None) -> None:
        """Come up again: the children that still live, in start order."""
        if self.anew:
            renew(self)
        self.number += 1
        self.fate = None
        self.restarting = False
        self.hard = math.inf
        if self.window is not None:
            self.window.clear()
        self.group.forget()
        self.enter("running")
        self.handshake = handshake
        self.system.spawn(self._bring_up, self.number, name=f"{self.path}#{self.number}")

    @enable_ki_protection
    async def _bring_up(self, number: int) -> None:
        with trio.CancelScope(shield=True) as scope:
            self.op_scope = scope
            for place in tuple(self.children.values()):
                if place.state == "down":
                    handshake = Handshake(None, kills=False)
                    place.begin(handshake)
                    await handshake.wait()
                    if self.op_scope is not scope:
                        return  # going down: a start that had finished in the same step saw no Cancelled
                    if self.group.broken:
                        break
        if self.op_scope is scope:
            self.op_scope = None
        if self.number != number or self.state != "running":
            return
        self.system.events.emit((ActorStarted if number == 1 else ActorRestarted)(self.path, number))
        self._resolve(started=True)
        if self.group.broken:
            self.group.mend_soon()

    def _resolve(self, *, started: bool) -> None:
        handshake, self.handshake = self.handshake, None
        if handshake is not None:
            handshake.resolve(Value(started))

    # ---- judging

    def judge(self, place: ActorPlace | SupervisorPlace, reason: StopReason) -> Fate:
        """What is to become of a child that has ended by itself. Counts it, and may fail this supervisor."""
        spec = place.spec
        if spec.restart == "temporary" or (spec.restart == "transient" and not reason.abnormal):
            return DONE if spec.significant else CLOSE
        if self.state not in UP:
            return HELD if self.restarting else CLOSE
        now = self.system.now()
        if isinstance(spec, ChildSpec) and spec.max_restarts is not None and spec.max_seconds is not None:
            if place.window is None:
                place.window = Window()
            if place.window.exceeded(now, spec.max_restarts, spec.max_seconds, reason.crash):
                return Fate("degrade", history=place.window.history)
        else:
            if self.window is None:
                self.window = Window()
            if self.window.exceeded(now, self.spec.max_restarts, self.spec.max_seconds, reason.crash):
                return self._give_up(place, self.window.history)
        delay = place.next_delay(spec.backoff, place.up_since)
        if self.strategy == "one_for_one":
            return Fate("restart", delay)
        self.group.add(place, now + delay)
        return HELD

    def _give_up(self, place: ActorPlace | SupervisorPlace, history: tuple[CrashReport, ...]) -> Fate:
        """Too many restarts: stop the children, and fail or end degraded."""
        system = self.system
        system.events.emit(SupervisorGaveUp(self.path, history))
        error = IntensityExceeded(self.path, self.spec.max_restarts, self.spec.max_seconds, history)
        crash = CrashReport(self.path, self.number, system.now(), error)
        self.last_crash = crash
        if self.opening:
            self.failure = error
            fate = CLOSE
        elif self.spec.on_intensity == "degrade":
            fate = Fate("degrade", history=history)
        elif self.parent is None:
            fate = CLOSE
            system.abort(error)
        else:
            system.events.emit(ActorCrashed(self.path, self.number, crash))
            fate = self.parent.judge(self, StopReason("crash", crash))
        self.end_by_itself(fate, StopReason("crash", crash))
        return HELD if fate.restarts and place.spec.restart != "temporary" else CLOSE

    def significant_ended(self, place: ActorPlace | SupervisorPlace) -> None:
        """A significant child has ended by itself, and for good."""
        if self.state == "starting":
            self.significant_end = place.path  # judged when all have started
        elif self.state == "running":
            auto_shut_down(self, place.path)

    def end_by_itself(self, fate: Fate, why: StopReason) -> None:
        if self.up:  # the parent's verdict may have been to go down itself
            self.why = why
            self._go_down("shutdown", self.system.now() + self.spec.shutdown, fate)

    # ---- stop

    def request_stop(self, kind: StopKind, hard: float, *, restarting: bool) -> None:
        """Ask the supervisor and all below it to end. Idempotent; a later request can only tighten it."""
        if self.closed is not None:
            return
        restarting = restarting and not self.opening and self.spec.restart != "temporary"
        self.cancel_restart()
        if self.state in {"waiting", "down"}:
            if restarting:
                self.enter("down")
            else:
                self._finish_close("stopped", StopReason(kind), ())
            return
        self._go_down(kind, min(hard, self.system.now() + self.spec.shutdown), HELD if restarting else CLOSE)

    def _go_down(self, kind: StopKind, hard: float, fate: Fate) -> None:
        if self.open_scope is not None:
            self.open_scope.cancel(reason=f"{self.path} is stopped")
        if self.state == "stopping":
            self.hard = min(self.hard, hard)
            self.stop_kind = kind
            # A final end stays final; otherwise the latest word counts.
            if self.fate is None or (self.fate.restarts and (not fate.restarts or self.fate.kind == "restart")):
                self.fate = fate
            self.restarting = self.restarting and fate.restarts
            for place in self.children.values():
                if place.state == "stopping":
                    place.request_stop(kind, self.hard, restarting=self.restarting)
            return
        self.enter("stopping")
        if self.keeper is not None:
            self.keeper.room.refuse_all(self.not_running)
        self.fate = fate
        self.restarting = fate.restarts
        self.stop_kind = kind
        self.hard = hard
        self.group.forget()
        scope, self.op_scope = self.op_scope, None
        if scope is not None:
            scope.cancel(reason=f"{self.path} is stopped")
        self.system.spawn(self._take_down, name=f"{self.path}/stop")

    @enable_ki_protection
    async def _take_down(self) -> None:
        with trio.CancelScope(shield=True):
            places = tuple(self.children.values())
            if self.dynamic:
                for place in places:
                    place.request_stop(self.stop_kind, self.hard, restarting=self.restarting)
            else:
                for place in reversed(places):
                    place.request_stop(self.stop_kind, self.hard, restarting=self.restarting)
                    await place.wait_down(past_stuck=True)
            # Whoever is stuck delays its supervisor's end, but not its siblings'.
            for place in places:
                await place.wait_down()
        self._finish_down()

    def _finish_down(self) -> None:
        fate = self.fate
        assert fate is not None
        why, self.why = self.why or StopReason(self.stop_kind), None
        reason = StopReason(why.kind, why.crash, why.detail, restarting=fate.restarts)
        if not self.restarting and fate.restarts:
            fate = CLOSE
        self.system.events.emit(ActorEnded(self.path, self.number, reason))
        self._resolve(started=False)  # before begin() takes the next one's handshake
        if fate.kind == "held":
            self.enter("down")
        elif fate.kind == "restart":
            self.system.restarts += 1
            self.schedule_restart(fate.delay)
        else:
            self._finish_close("degraded" if fate.kind == "degrade" else "stopped", reason, fate.history)
            if fate is DONE and self.parent is not None:
                self.parent.significant_ended(self)
        self.signal_down()

    def _finish_close(self, state: str, reason: StopReason, history: tuple[CrashReport, ...]) -> None:
        for place in reversed(tuple(self.children.values())):
            place.request_stop("shutdown", math.inf, restarting=False)
        self.enter(state)
        self.closed = reason
        if state == "degraded":
            self.system.events.emit(ActorDegraded(self.path, history))
        self.system.events.emit(PlaceClosed(self.path, reason))
        if self.parent is not None:
            self.parent.child_closed(self)

    async def wait_down(self, *, past_stuck: bool = False) -> None:
        """Until it and all below it have ended."""
        if self.state != "stopping":
            return
        if self.down_event is None:
            self.down_event = trio.Event()
        await self.down_event.wait()

    def child_closed(self, place: ActorPlace | SupervisorPlace) -> None:
        """Forget what is not to be seen again."""
        self.group.broken.discard(place)
        if self.keeper is not None:
            self.keeper.room.give_back()
        if self.children.get(place.name) is not place or place.state == "degraded":
            return
        if self.dynamic or place.spec.restart == "temporary" or place.opening:
            del self.children[place.name]

    @property
    def up_since(self) -> float | None:
        return self.since if self.state == "running" else None
