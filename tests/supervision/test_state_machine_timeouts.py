"""The timeouts of state machines: when they come, to which state, and when not."""

from __future__ import annotations

import math

import pytest
import trio

from supervision import (
    ActorCrashed,
    CannotDefer,
    ChildSpec,
    Mailbox,
    handles,
    on_state_timeout,
)
from tests.supervision.machines import (
    Free,
    Push,
    Unlock,
    Where,
    free,
    machine,
    steps,
)
from tests.supervision.world import NOW, Crash, Log, child, seeded, settle, system


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
