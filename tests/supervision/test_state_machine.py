"""State machines: handlers by state, going elsewhere, entering, timeouts, postponing, and what is refused."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any, Literal

import pytest
import trio

from supervision import (
    Actor,
    ActorCrashed,
    ActorDown,
    Call,
    CannotDefer,
    Cast,
    ChildSpec,
    Down,
    InvalidSpec,
    Mailbox,
    NotInHandler,
    NotInThisState,
    StateMachine,
    StopReason,
    SupervisionError,
    Undelivered,
    UnknownMessage,
    handles,
    in_state,
    on_enter,
    on_event_timeout,
    on_state_timeout,
)
from supervision.testing import InjectedFault, cancel_sweep
from tests.supervision.world import NOW, Boom, Crash, Log, Quit, child, seeded, settle, system


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
async def test_timeouts_come_in_their_state_and_in_time() -> None:
    log = Log()
    async with system(log) as s:
        door = await s.start_child(machine(log))
        start = trio.current_time()
        await door.call(Unlock(7))
        await door.cast(Push())
        await settle()
        await trio.sleep(3)
        assert await door.call(Where()) == "wide open"  # a message does not cancel a state timeout
        await trio.sleep(20)
        assert log.of("falls shut") == [(pytest.approx(start + 5, abs=0.01),)]
        await trio.sleep(30)
        assert await door.call(Where()) == "CLOSED"  # but it does cancel an event timeout
        await trio.sleep(100)
        assert log.of("nobody comes") == []
        await door.cast(Push())
        await trio.sleep(100)
        assert log.of("nobody comes") == [(pytest.approx(start + 218, abs=0.1),)]
        assert await door.call(Where()) == "LOCKED"
        assert s.statistics().timers == 0


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
async def test_a_state_timeout_with_goto_is_for_the_new_state() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(free(log))
        await ref.cast(steps(lambda m: m.state_timeout(1), lambda m: m.goto("b")))
        await trio.sleep(2)
        assert log.of("state over") == [("b",)]
        await ref.cast(steps(lambda m: m.state_timeout(1)))
        await settle()
        await ref.cast(steps(lambda m: m.goto("a")))
        await trio.sleep(2)
        assert log.of("state over") == [("b",)]  # it never reaches a later state
        for seconds in (3, 1, math.inf):
            await ref.cast(steps(lambda m, seconds=seconds: m.state_timeout(seconds)))
            await settle()
        await trio.sleep(10)
        assert log.of("state over") == [("b",)]
        assert s.statistics().timers == 0


@seeded()
async def test_a_timeout_that_is_over_while_a_handler_goes_elsewhere_is_lost() -> None:
    log = Log()

    class Slow(Free):
        @handles(Push)
        async def push(self, message: Push) -> None:
            await trio.sleep(5)
            self.goto("b")

    async with system(log) as s:
        ref = await s.start_child(ChildSpec("slow", lambda: Slow(log), backoff=NOW))
        await ref.cast(steps(lambda m: m.state_timeout(1)))
        await ref.cast(Push())
        await trio.sleep(10)
        assert log.lines == [("enter", "a", None), ("enter", "b", "a")]


@seeded()
async def test_a_full_mailbox_does_not_swallow_a_timeout() -> None:
    log = Log()

    class Slow(Free):
        @handles(Push)
        async def push(self, message: Push) -> None:
            await trio.sleep(5)
            self.log.add("pushed")

    async with system(log) as s:
        ref = await s.start_child(ChildSpec("slow", lambda: Slow(log), mailbox=Mailbox(capacity=1), backoff=NOW))
        await ref.cast(steps(lambda m: m.state_timeout(1)))
        await ref.cast(Push())
        await ref.cast(Push())
        await trio.sleep(20)
        # the library's messages overtake
        assert log.lines == [("enter", "a", None), ("pushed",), ("state over", "a"), ("pushed",)]


@seeded()
async def test_anything_that_is_handled_cancels_an_event_timeout() -> None:
    log = Log()
    async with system(log) as s:
        other = await s.start_child(child("other"))
        ref = await s.start_child(free(log))
        await ref.cast(steps(lambda m: m.context.monitor(other), lambda m: m.event_timeout(5)))
        await trio.sleep(1)
        await other.cast(Crash())
        await trio.sleep(10)
        await ref.cast(steps(lambda m: m.event_timeout(5), lambda m: m.state_timeout(1)))
        await trio.sleep(10)
        await ref.cast(steps(lambda m: m.event_timeout(5)))
        await trio.sleep(10)
        assert log.lines[1:] == [("down", "a"), ("state over", "a"), ("event over", "a")]


@seeded()
async def test_bad_use_is_said_at_the_call_and_the_machine_lives_on() -> None:
    log = Log()
    kept: list[Free] = []
    said: list[str] = []

    def expect(error: type[Exception], *calls: Any) -> Do:
        def run(machine: Free) -> None:
            kept.append(machine)
            *before, last = calls
            for call in before:
                call(machine)
            with pytest.raises(error) as caught:
                last(machine)
            said.append(str(caught.value))

        return Do(run)

    no_timeout = (
        "t/free: a timeout for 'c', which has no method marked for it; add one with @on_state_timeout or "
        "@on_event_timeout, or call goto() before setting the timeout of another state"
    )
    async with system(log) as s:
        ref = await s.start_child(free(log))
        for message in (
            expect(InvalidSpec, lambda m: m.goto("d")),
            expect(InvalidSpec, lambda m: m.state_timeout(-1)),
            expect(InvalidSpec, lambda m: m.event_timeout(math.nan)),
            expect(InvalidSpec, lambda m: m.goto("c"), lambda m: m.state_timeout(1)),
            expect(InvalidSpec, lambda m: m.goto("a"), lambda m: m.event_timeout(1), lambda m: m.goto("c")),
        ):
            await ref.cast(message)
        await settle()
        assert said == [
            "t/free: goto: 'd' is none of its states; these are: 'a', 'b', 'c'",
            "t/free: state_timeout: it must be at least 0 seconds, or inf, got -1",
            "t/free: event_timeout: it must be at least 0 seconds, or inf, got nan",
            *[no_timeout] * 2,
        ]
        for call in (
            lambda: kept[0].goto("b"),
            lambda: kept[0].state_timeout(1),
            lambda: kept[0].event_timeout(1),
            lambda: Free(log).goto("b"),
        ):
            with pytest.raises(NotInHandler, match=r"belongs in init\(\) or in a handler of the machine"):
                call()
        assert Free(log).state == "a"
        assert s.statistics().restarts == 0


@seeded()
async def test_tasks_and_enter_methods_do_not_move_the_machine() -> None:
    log = Log()
    raised: list[tuple[type[Exception], bool]] = []

    class Tries(Free):
        @on_enter("b")
        def entered_b(self, previous: str | None) -> None:
            try:
                self.goto("c")
            except NotInHandler as error:
                raised.append((type(error), "in the @on_enter method of 'b'" in str(error)))

        @on_enter("a")
        def entered(self, previous: str | None) -> None:
            pass

        @handles(Push)
        async def push(self, message: Push) -> None:
            async def task() -> None:
                try:
                    self.goto("c")
                except NotInHandler as error:
                    raised.append((type(error), False))

            self.context.start_task(task)
            await trio.sleep(1)
            self.goto("b")

    async with system(log) as s:
        ref = await s.start_child(ChildSpec("tries", lambda: Tries(log), backoff=NOW))
        await ref.cast(Push())
        await trio.sleep(2)
        assert raised == [(NotInHandler, False), (NotInHandler, True)]
        await ref.cast(steps(lambda m: log.add("at", m.state)))
        await settle()
        assert log.of("at") == [("b",)]


@seeded()
async def test_a_timeout_cannot_be_deferred() -> None:
    log = Log()

    class Defers(Free):
        @on_state_timeout("a")
        def state_over(self) -> None:
            self.context.defer()

    async with system(log) as s:
        ref = await s.start_child(ChildSpec("defers", lambda: Defers(log), backoff=NOW))
        await ref.cast(steps(lambda m: m.state_timeout(1)))
        await trio.sleep(2)
        (event,) = log.seen(ActorCrashed)
        assert isinstance(event.crash.error, CannotDefer)
        assert str(event.crash).startswith("t/defers#1 at ")
        assert "while handling StateTimeout" in str(event.crash)


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


def test_mistakes_in_a_class_are_said_when_it_is_made() -> None:
    def text(make: Any) -> str:
        with pytest.raises(InvalidSpec) as caught:
            make()
        return str(caught.value).rpartition(".<locals>.")[2]

    def no_initial() -> None:
        class M(StateMachine[Door]):
            pass

    def no_states() -> None:
        class M(StateMachine[str]):
            initial = "a"

    def initial_elsewhere() -> None:
        class M(StateMachine[str]):
            initial = "a"
            states = ("b", "c")

    def unknown_state() -> None:
        class M(StateMachine[str]):
            initial = "a"
            states = ("a", "b")

            @in_state("c")
            @handles(Push)
            def push(self, message: Push) -> None: ...

    def unknown_state_to_enter() -> None:
        class M(StateMachine[Door]):
            initial = Door.OPEN

            @on_enter("OPEN")
            def enter(self, previous: Door | None) -> None: ...

    def two_in_one_state() -> None:
        class M(StateMachine[Door]):
            initial = Door.OPEN

            @in_state(Door.OPEN, Door.CLOSED)
            @handles(Push)
            def push(self, message: Push) -> None: ...

            @in_state(Door.OPEN)
            @handles(Push)
            def pull(self, message: Push) -> None: ...

    def two_everywhere() -> None:
        class M(StateMachine[Door]):
            initial = Door.OPEN

            @handles(Push)
            def push(self, message: Push) -> None: ...

            @handles(Push)
            def pull(self, message: Push) -> None: ...

    def two_timeouts() -> None:
        class M(StateMachine[Door]):
            initial = Door.OPEN

            @on_state_timeout(Door.OPEN)
            def one(self) -> None: ...

            @on_state_timeout(Door.OPEN)
            def another(self) -> None: ...

    def no_handles() -> None:
        class M(StateMachine[Door]):
            initial = Door.OPEN

            @in_state(Door.OPEN)
            def push(self, message: Push) -> None: ...

    def bad_policy() -> None:
        class M(StateMachine[Door]):
            initial = Door.OPEN
            when_unhandled = "ignore"  # type: ignore[assignment]

    def no_machine() -> None:
        class M(Actor):
            @in_state(Door.OPEN)
            @handles(Push)
            def push(self, message: Push) -> None: ...

    assert text(no_initial) == "M: a StateMachine needs `initial`, a state; got None"
    assert text(no_states) == "M: list its states, as in `states = ('a', ...)`"
    assert text(initial_elsewhere) == "M: its initial state 'a' is not in `states`"
    assert text(unknown_state) == "M: push is for 'c', which is none of its states; these are: 'a', 'b'"
    assert text(unknown_state_to_enter).startswith("M: enter is for 'OPEN', which is none of its states")
    assert text(two_in_one_state) == "M: push and pull are both handlers of Push in OPEN; leave one"
    assert text(two_everywhere) == "M: push and pull are both handlers of Push; leave one"
    assert text(two_timeouts) == "M: one and another are both @on_state_timeout in OPEN; leave one"
    assert text(no_handles) == "M: push has @in_state, but no @handles below it"
    assert text(bad_policy) == "M: when_unhandled is refuse or postpone, got 'ignore'"
    assert text(no_machine) == "M: push is marked for a state; derive from StateMachine"
    for mark in (in_state, on_enter, on_state_timeout, on_event_timeout):
        with pytest.raises(InvalidSpec, match=f"@{mark.__name__}: name one or more states"):
            mark()
        with pytest.raises(InvalidSpec, match="got \\(3,\\)"):
            mark(3)  # type: ignore[arg-type]


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
