"""State machines: handlers by state, going elsewhere, entering, postponing, restarts, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio

from supervision import (
    ActorDown,
    ChildSpec,
    NotInThisState,
    StateMachine,
    SupervisionError,
    Undelivered,
    UnknownMessage,
    handles,
    in_state,
    on_enter,
)
from supervision.testing import InjectedFault, cancel_sweep
from tests.supervision.machines import (
    Door,
    DoorMachine,
    Lock,
    Push,
    Seal,
    Unheard,
    Unlock,
    Where,
    free,
    machine,
    steps,
)
from tests.supervision.world import NOW, Boom, Crash, Log, Quit, seeded, settle, system


@seeded()
async def test_a_message_does_what_its_state_says() -> None:
    log = Log()
    async with system(log) as s:
        door = await s.start_child(machine(log))
        assert await door.call(Where()) == "LOCKED"
        assert await door.call(Unlock(1)) is False
        assert await door.call(Where()) == "LOCKED"
        assert await door.call(Unlock(7)) is True
        assert await door.call(Where()) == "CLOSED"
        await door.cast(Push())
        assert await door.call(Where()) == "wide open"
        await door.call(Lock())
        assert await door.call(Where()) == "LOCKED"
        assert log.of("enter") == [
            (Door.LOCKED, None),
            (Door.CLOSED, Door.LOCKED),
            (Door.OPEN, Door.CLOSED),
            (Door.LOCKED, Door.OPEN),
        ]
        assert s.statistics().restarts == 0


@seeded()
async def test_the_reply_comes_when_the_new_state_is_entered() -> None:
    log = Log()
    async with system(log) as s:
        door = await s.start_child(machine(log))
        await door.call(Unlock(7))
        assert log.of("enter")[-1] == (Door.CLOSED, Door.LOCKED)


@seeded()
async def test_the_initial_state_is_entered_after_init_and_before_any_message() -> None:
    log = Log()

    class Chooses(DoorMachine):
        async def init(self) -> None:
            await super().init()
            self.goto(Door.OPEN)
            self.context.ref.cast_nowait(Quit())

    async with system(log) as s:
        door = await s.start_child(machine(log, Chooses, restart="transient"))
        await settle()
        assert log.lines == [
            ("init", 1, Door.LOCKED),
            ("enter", Door.OPEN, None),
            ("terminate", 1, Door.OPEN),
        ]
        assert door.state == "stopped"


@seeded()
async def test_a_message_that_the_state_refuses() -> None:
    log = Log()
    async with system(log) as s:
        door = await s.start_child(machine(log))
        with pytest.raises(NotInThisState) as caught:
            await door.call(Lock())
        assert str(caught.value) == (
            "t/door has no handler for Lock in its state LOCKED; it has one in: CLOSED, OPEN"
        )
        await door.cast(Push())
        await settle()
        assert [(event.path, event.message, event.why) for event in log.seen(Undelivered)] == [
            ("t/door", Push(), "not_in_state")
        ]
        assert s.statistics().undelivered == 1
        with pytest.raises(UnknownMessage, match=r"It handles: Crash, Lock, Push, Quit, Unlock, Where$"):
            await door.cast(Unheard())
        assert await door.call(Where()) == "LOCKED"
        assert s.statistics().restarts == 0


class Postponing(DoorMachine):
    when_unhandled = "postpone"


@seeded()
async def test_a_message_is_postponed_until_the_state_changes() -> None:
    log = Log()
    async with system(log) as s:
        door = await s.start_child(machine(log, Postponing))
        await door.cast(Push())
        replies: list[object] = []

        async def lock() -> None:
            replies.append(await door.call(Lock(), math.inf))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lock)
            await settle()
            assert await door.call(Where()) == "LOCKED"
            assert await door.call(Unlock(1)) is False  # handled, but the state is the same
            await settle()
            assert replies == []
            assert await door.call(Unlock(7)) is True
        # pushed open, then locked, in the order in which they came
        assert log.of("enter")[1:] == [
            (Door.CLOSED, Door.LOCKED),
            (Door.OPEN, Door.CLOSED),
            (Door.LOCKED, Door.OPEN),
        ]
        assert log.seen(Undelivered) == []


@seeded()
async def test_a_handler_may_postpone_and_move_at_once() -> None:
    log = Log()

    class Moves(DoorMachine):
        @in_state(Door.LOCKED, Door.CLOSED)
        @handles(Seal)
        def seal(self, message: Seal) -> None:
            self.log.add("seal", self.state)
            if self.state is Door.LOCKED:
                self.context.defer()
                self.goto(Door.CLOSED)

        @in_state(Door.LOCKED)
        @handles(Push)
        def no_push(self, message: Push) -> None:
            self.context.defer()

    async with system(log) as s:
        door = await s.start_child(machine(log, Moves))
        door.cast_nowait(Push())
        door.cast_nowait(Seal())
        await settle()
        # what was set aside first comes first: the push opens the door, and an open door takes no seal
        assert log.of("seal") == [(Door.LOCKED,)]
        assert [event.message for event in log.seen(Undelivered)] == [Seal()]
        assert await door.call(Where()) == "wide open"


@seeded()
async def test_a_new_incarnation_starts_in_the_initial_state() -> None:
    log = Log()
    async with system(log) as s:
        door = await s.start_child(machine(log))
        await door.call(Unlock(7))
        await door.cast(Push())
        await door.cast(Crash())
        assert await door.call(Where()) == "LOCKED"
        assert log.of("enter")[-1] == (Door.LOCKED, None)
        assert log.of("init") == [(1, Door.LOCKED), (2, Door.LOCKED)]
        await trio.sleep(100)  # the timeouts of the first one are gone with it
        assert log.of("falls shut") == []
        assert await door.call(Where()) == "LOCKED"
        assert s.statistics().timers == 0


@seeded()
async def test_going_to_the_present_state_enters_it_once_more_and_changes_nothing_else() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(free(log))
        await ref.cast(steps(lambda m: m.state_timeout(5)))
        await ref.cast(steps(lambda m: m.context.defer() if log.of("enter")[-1][1] is None else log.add("at last")))
        await ref.cast(steps(lambda m: m.goto("a")))
        await settle()
        assert log.lines == [("enter", "a", None), ("enter", "a", "a")]
        await trio.sleep(6)
        assert log.lines[2:] == [("state over", "a")]
        await ref.cast(steps(lambda m: m.goto("b")))
        await settle()
        assert log.lines[3:] == [("enter", "b", "a"), ("at last",)]


@seeded()
async def test_a_crash_in_an_enter_method_is_the_machines() -> None:
    log = Log()

    class Trips(DoorMachine):
        @on_enter(Door.CLOSED)
        def at_rest(self, previous: Door | None) -> None:
            raise Boom("on the threshold")

    async with system(log) as s:
        door = await s.start_child(machine(log, Trips))
        with pytest.raises(ActorDown, match="on the threshold"):
            await door.call(Unlock(7))
        assert await door.call(Where()) == "LOCKED"
        assert log.of("terminate") == [(1, Door.CLOSED)]


class Gentle(Push, frozen=True):
    """A kind of push."""


class Mixin:
    @handles(Lock)
    def lock(self, message: Lock) -> None:
        self.log.add("the mixin's")  # type: ignore[attr-defined]


@seeded()
async def test_overrides_and_subtypes_of_messages() -> None:
    log = Log()

    class Base(Mixin, StateMachine[Door]):
        initial = Door.OPEN

        def __init__(self) -> None:
            self.log = log

        @in_state(Door.OPEN, Door.CLOSED)
        @handles(Push)
        def push(self, message: Push) -> None:
            log.add("base")

        @in_state(Door.CLOSED)
        @handles(Gentle)
        def gently(self, message: Gentle) -> None:
            log.add("gently")

        @handles(Where)
        def where(self, message: Where) -> str:
            return self.state.name

    class Narrow(Base):
        @in_state(Door.OPEN)  # with a mark of its own: for this state only
        @handles(Push)
        def push(self, message: Push) -> None:
            log.add("narrow")
            self.goto(Door.CLOSED)

        def where(self, message: Where) -> str:  # without one: for what it was
            return super().where(message).lower()

    async with system(log) as s:
        ref = await s.start_child(ChildSpec("m", Narrow, backoff=NOW))
        await ref.call(Lock())
        await ref.cast(Gentle())  # as a Push, for a Gentle has no handler here
        assert await ref.call(Where()) == "closed"
        await ref.cast(Gentle())
        await ref.cast(Push())
        assert await ref.call(Where()) == "closed"
        assert log.lines == [("the mixin's",), ("narrow",), ("gently",)]
        assert [event.why for event in log.seen(Undelivered)] == ["not_in_state"]


class Working:
    """A machine is unlocked, pushed, left to its timeouts, crashed and stopped, cut anywhere."""

    def __init__(self) -> None:
        self.log = Log()

    async def run(self) -> None:
        async with system(self.log) as s:
            self.s = s
            door = await s.start_child(machine(self.log, Postponing))
            try:
                door.cast_nowait(Push())
                await door.call(Unlock(7))
                await trio.sleep(6)
                await door.call(Lock())
                door.cast_nowait(Push())
                door.cast_nowait(Crash())
                await door.call(Unlock(7))
                await trio.sleep(1)
                await s.stop_child("door")
            except SupervisionError:
                pass  # an injected fault may end any call

    def check(self, error: BaseException | None) -> None:
        assert error is None or isinstance(error, InjectedFault)
        lives: list[list[tuple[Any, ...]]] = []
        for line in self.log.lines:
            if line[0] == "init":
                lives.append([])
            lives[-1].append(line)
        for life in lives:
            assert [line[0] for line in life].count("terminate") == 1
            assert life[-1][0] == "terminate"
            entered = [line for line in life if line[0] == "enter"]
            assert all(line[1:] == (Door.LOCKED, None) for line in entered[:1])
            assert all(line[2] is not None for line in entered[1:])
        if hasattr(self, "s"):
            assert self.s.statistics().timers == 0


def test_a_machine_cut_at_any_step_starts_anew_and_leaves_nothing() -> None:
    assert cancel_sweep(Working, seeds=range(3)).runs > 100


@seeded()
async def test_a_machine_that_hibernates_keeps_its_state_and_its_timeouts() -> None:
    log = Log()
    async with system(log) as s:
        door = await s.start_child(machine(log, Postponing, hibernate_after=1.0))
        await door.cast(Push())  # set aside
        await trio.sleep(10)
        assert door.place.life is not None
        assert door.place.life.task is None
        start = trio.current_time()
        await door.call(Unlock(7))
        await trio.sleep(3)
        assert door.place.life.task is None  # while the state timeout runs
        assert await door.call(Where()) == "wide open"
        await trio.sleep(7)
        assert log.of("falls shut") == [(pytest.approx(start + 5, abs=0.01),)]
        assert await door.call(Where()) == "CLOSED"
        await trio.sleep(100)
        assert log.of("init") == [(1, Door.LOCKED)]
