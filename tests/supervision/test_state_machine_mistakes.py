"""Mistakes with state machines: said when the class is made, or at the call."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio

from supervision import (
    Actor,
    ChildSpec,
    InvalidSpec,
    NotInHandler,
    StateMachine,
    handles,
    in_state,
    on_enter,
    on_event_timeout,
    on_state_timeout,
)
from tests.supervision.machines import (
    Do,
    Door,
    Free,
    Push,
    free,
    steps,
)
from tests.supervision.world import NOW, Log, seeded, settle, system


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
