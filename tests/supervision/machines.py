"""State machines that the tests share: a door, and one that does what it is told."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import trio

from supervision import (
    Call,
    Cast,
    ChildSpec,
    Down,
    StateMachine,
    StopReason,
    handles,
    in_state,
    on_enter,
    on_event_timeout,
    on_state_timeout,
)
from tests.supervision.world import NOW, Boom, Crash, Log, Quit


class Door(Enum):
    LOCKED = 1
    CLOSED = 2
    OPEN = 3


class Unlock(Call[bool], frozen=True):
    code: int


class Push(Cast, frozen=True):
    """Open it."""


class Lock(Call[None], frozen=True):
    """Lock it."""


class Where(Call[str], frozen=True):
    """The state's name."""


class Seal(Cast, frozen=True):
    """Handled in CLOSED only, in its own way in OPEN."""


class Unheard(Cast, frozen=True):
    pass


class DoorMachine(StateMachine[Door]):
    """Unlocks for 7, closes by itself after 5 s, locks itself when nobody has come for 60 s."""

    initial = Door.LOCKED

    def __init__(self, log: Log) -> None:
        self.log = log

    async def init(self) -> None:
        self.log.add("init", self.context.incarnation, self.state)

    async def terminate(self, reason: StopReason) -> None:
        self.log.add("terminate", self.context.incarnation, self.state)

    @on_enter(Door.LOCKED, Door.CLOSED)
    async def at_rest(self, previous: Door | None) -> None:
        await trio.lowlevel.checkpoint()
        self.log.add("enter", self.state, previous)
        if self.state is Door.CLOSED:
            self.event_timeout(60)

    @on_enter(Door.OPEN)
    def opened(self, previous: Door | None) -> None:
        self.log.add("enter", self.state, previous)
        self.state_timeout(5)

    @on_state_timeout(Door.OPEN)
    def falls_shut(self) -> None:
        self.log.add("falls shut", trio.current_time())
        self.goto(Door.CLOSED)

    @on_event_timeout(Door.CLOSED)
    async def nobody_comes(self) -> None:
        await trio.lowlevel.checkpoint()
        self.log.add("nobody comes", trio.current_time())
        self.goto(Door.LOCKED)

    @in_state(Door.LOCKED)
    @handles(Unlock)
    async def unlock(self, message: Unlock) -> bool:
        await trio.lowlevel.checkpoint()
        if message.code != 7:
            return False
        self.goto(Door.CLOSED)
        assert self.state is Door.LOCKED  # until this handler returns
        return True

    @in_state(Door.CLOSED)
    @handles(Push)
    def push(self, message: Push) -> None:
        self.goto(Door.OPEN)

    @in_state(Door.CLOSED, Door.OPEN)
    @handles(Lock)
    def lock(self, message: Lock) -> None:
        self.goto(Door.LOCKED)

    @handles(Where)
    def where(self, message: Where) -> str:
        return self.state.name

    @in_state(Door.OPEN)
    @handles(Where)
    async def where_when_open(self, message: Where) -> str:
        return "wide open"

    @handles(Crash)
    def crash(self, message: Crash) -> None:
        raise Boom("on demand")

    @handles(Quit)
    def quit(self, message: Quit) -> None:
        self.context.stop()


def machine(log: Log, kind: type[DoorMachine] = DoorMachine, **options: Any) -> ChildSpec:
    return ChildSpec("door", lambda: kind(log), backoff=NOW, **options)


class Do(Cast, frozen=True):
    """Call a function with the machine."""

    what: Any


class Free(StateMachine[Literal["a", "b", "c"]]):
    """Does what it is told; the c has no timeouts."""

    initial = "a"
    states = ("a", "b", "c")

    def __init__(self, log: Log) -> None:
        self.log = log

    @handles(Do)
    def do(self, message: Do) -> object:
        return message.what(self)

    @handles(Down)
    def down(self, message: Down) -> None:
        self.log.add("down", self.state)

    @on_enter("a", "b")
    def entered(self, previous: str | None) -> None:
        self.log.add("enter", self.state, previous)

    @on_state_timeout("a", "b")
    def state_over(self) -> None:
        self.log.add("state over", self.state)

    @on_event_timeout("a", "b")
    def event_over(self) -> None:
        self.log.add("event over", self.state)


def free(log: Log, **options: Any) -> ChildSpec:
    return ChildSpec("free", lambda: Free(log), backoff=NOW, **options)


def steps(*calls: Any) -> Do:
    """A message whose handler does all of these."""

    def run(machine: Free) -> None:
        for call in calls:
            call(machine)

    return Do(run)
