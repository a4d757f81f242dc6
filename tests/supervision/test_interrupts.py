"""^C: wherever it strikes, everything ends in order, and it is raised."""

from __future__ import annotations

import math
import random
import signal
import sys
import types
from typing import Any

import pytest
import trio

from supervision import (
    Actor,
    ActorBusy,
    ActorCrashed,
    ActorDown,
    ActorRef,
    ActorStopped,
    Call,
    ChildSpec,
    DynamicSupervisorSpec,
    Event,
    Mailbox,
    StopReason,
    SupervisorSpec,
    Undelivered,
    handles,
    open_system,
)
from supervision.incarnation import Incarnation
from supervision.testing import run_seeded
from tests.supervision.world import NOW, Add, Boom, Counter, Crash, Defer, Get, Log, Nap, child, system


class Slow(Actor):
    """Its terminate() takes ten seconds."""

    def __init__(self, log: Log) -> None:
        self.log = log

    @handles(Nap)
    async def nap(self, message: Nap) -> str:
        await trio.sleep(message.seconds)
        return "rested"

    async def terminate(self, reason: StopReason) -> None:
        self.log.add("begin", self.context.name, reason.kind)
        await trio.sleep(10)
        self.log.add("end", self.context.name)


async def interrupt_after(*seconds: float) -> None:
    for pause in seconds:
        await trio.sleep(pause)
        signal.raise_signal(signal.SIGINT)


def interrupted(log: Log, *pauses: float, body: float) -> float:
    """Three slow actors, one of them with a message in hand; ^C after each pause. How long it all took."""
    took: list[float] = []

    async def run() -> None:
        before = trio.current_time()
        trio.lowlevel.spawn_system_task(interrupt_after, *pauses)
        try:
            async with system(log) as s:
                for name in "abc":
                    ref = await s.start_child(ChildSpec(name, lambda: Slow(log), shutdown=60.0))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ref.call, Nap(1e4), math.inf)
                    await trio.sleep(body)
                    nursery.cancel_scope.cancel()
        finally:
            took.append(trio.current_time() - before)

    for seed in range(5):
        log.lines.clear()
        with pytest.raises(KeyboardInterrupt) as caught:
            run_seeded(run, seed=seed, limit=1e5)
        assert caught.value.__notes__ == [f"run_seeded: seed={seed}"]  # bare
    return took[-1]


def test_an_interrupt_of_the_body_is_an_ordered_shutdown() -> None:
    log = Log()

    async def run() -> None:
        trio.lowlevel.spawn_system_task(interrupt_after, 5.0)
        async with system(log) as s:
            for name in "abc":
                ref = await s.start_child(ChildSpec(name, lambda: Slow(log), shutdown=60.0))
            await ref.call(Nap(1e4), math.inf)

    with pytest.raises(KeyboardInterrupt):
        run_seeded(run, seed=0, limit=1e5)
    assert log.of("begin") == [("c", "cancelled"), ("b", "cancelled"), ("a", "cancelled")]
    assert log.of("end") == [("c",), ("b",), ("a",)]


def test_an_interrupt_of_the_shutdown_hurries_it() -> None:
    """What is in hand gets no more grace, each terminate() runs."""
    log = Log()
    assert interrupted(log, 5.0, body=1.0) == pytest.approx(5 + 30)
    assert log.of("begin") == [("c", "cancelled"), ("b", "cancelled"), ("a", "cancelled")]
    assert log.of("end") == [("c",), ("b",), ("a",)]


def test_a_second_interrupt_cuts_terminate_off_too() -> None:
    log = Log()
    assert interrupted(log, 5.0, 13.0, body=1.0) == pytest.approx(18.0)
    assert [line[0] for line in log.of("begin")] == ["c", "b", "a"]  # each has begun, all the same
    assert log.of("end") == [("c",)]
    assert interrupted(log, 5.0, 1.0, 0.0, 0.0, body=1.0) == pytest.approx(6.0)
    assert [line[0] for line in log.of("begin")] == ["c", "b", "a"]


@pytest.mark.parametrize("pause", [1.0, 20.0])
def test_a_system_that_is_cut_short_gives_nobody_time(pause: float) -> None:
    """In its body, and while it stops: each terminate() begins, in order, and is cut off."""
    log = Log()

    async def run() -> float:
        async with trio.open_nursery() as nursery, system(log) as s:
            for name in "abc":
                await s.start_child(ChildSpec(name, lambda: Slow(log), shutdown=60.0))

            async def cut() -> None:
                await trio.sleep(pause)
                s.cut_short()
                s.cut_short()

            nursery.start_soon(cut)
            await trio.sleep(10.0)
        s.cut_short()
        return trio.current_time()

    assert run_seeded(run, seed=0, limit=1e5) == pytest.approx(pause)
    ended = 1 if pause > 10.0 else 0  # of ten seconds each
    assert [line[0] for line in log.of("begin")] == ["c", "b", "a"]
    assert log.of("end") == [("c",)][:ended]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_that_strikes_in_terminate_hurries_the_others(error: type[BaseException]) -> None:
    log = Log()

    class Exits(Slow):
        async def terminate(self, reason: StopReason) -> None:
            self.log.add("exits", self.context.name)
            raise error

    ended: list[float] = []

    async def run() -> None:
        before = trio.current_time()
        try:
            await program()
        finally:
            ended.append(trio.current_time() - before)

    async def program() -> None:
        async with system(log) as s:
            await s.start_child(child("waits", log))
            ref = await s.start_child(ChildSpec("a", lambda: Slow(log), shutdown=600.0))
            for name in "bc":
                await s.start_child(ChildSpec(name, lambda: Exits(log)))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ref.call, Nap(1e4), math.inf)
                await trio.sleep(1)
                nursery.cancel_scope.cancel()

    for seed in range(5):
        log.lines.clear()
        with pytest.raises(BaseExceptionGroup, match="the system t failed") as caught:
            run_seeded(run, seed=seed, limit=1e5)
        assert ended[-1] == pytest.approx(11.0)  # nobody waits for the nap
        assert [type(each) for each in caught.value.exceptions] == [error] * 2
        assert [line[0] for line in log.of("exits")] == ["c", "b"]
        assert log.of("begin") == [("a", "cancelled")]
        assert log.of("end") == [("a",)]  # a second one out of an actor is nobody's impatience
        assert log.of("terminate") == [("waits", 1, "cancelled", False)]


def test_an_interrupt_just_when_a_child_has_started_leaves_none() -> None:
    """It strikes between the two instructions that no checkpoint lies between."""
    log = Log()

    class Strike(trio.abc.Instrument):
        struck = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if any(frame.f_code.co_qualname == "Handshake.wait" for frame, _ in task.iter_await_frames()):
                from outcome import Error

                self.struck += 1
                task._next_send = Error(KeyboardInterrupt("here"))

    strike = Strike()

    async def run() -> None:
        async with system(log) as s:
            with pytest.raises(KeyboardInterrupt, match="here"):
                await s.start_child(child("a", log))
            assert s.children() == {}
            assert s.statistics().actors == 0
            assert log.of("terminate") == [("a", 1, "shutdown", False)]

    run_seeded(run, seed=0, instruments=[strike])
    assert strike.struck == 1


def test_the_librarys_own_steps_are_protected_and_the_users_are_not() -> None:
    """As trio's own are: ^C strikes in user code, or the main task."""
    protected: dict[str, set[bool]] = {}

    def note(what: str) -> None:
        protected.setdefault(what, set()).add(trio.lowlevel.currently_ki_protected())

    class Notes(Counter):
        async def init(self) -> None:
            note("user: init")
            self.context.start_task(self.task)

        async def task(self) -> None:
            note("user: task")

        @handles(Crash)
        def crash(self, message: Crash) -> None:
            note("user: handler")
            raise Boom

        @handles(Nap)
        async def nap(self, message: Nap) -> str:
            await trio.sleep(message.seconds)
            return "rested"

        async def terminate(self, reason: StopReason) -> None:
            note("user: terminate")

    def listen(event: Event) -> None:
        if event.path in {"t/g", "t/d"} or isinstance(event, (ActorBusy, ActorCrashed)):
            note(f"library: {type(event).__name__}")

    async def run() -> None:
        async with open_system("t", random=random.Random(0), max_restarts=100) as s:
            note("user: body")
            s.events.subscribe(listen)
            spec = ChildSpec("a", Notes, backoff=NOW, busy_alarm=1.0)
            g = await s.start_child(
                SupervisorSpec("g", strategy="one_for_all", children=[spec], max_restarts=1, backoff=NOW)
            )
            await s.start_child(DynamicSupervisorSpec("d"))
            for _ in range(2):  # a batch, and then a supervisor that gives up and is restarted
                ref = g.child("a")
                await ref.call(Nap(3.0))  # type: ignore[union-attr]
                await ref.cast(Crash())  # type: ignore[union-attr]
                await trio.sleep(1)

    run_seeded(run, seed=0)
    library = {
        "library: ActorEnded",  # the task that takes a supervisor down
        "library: ActorRestarted",  # the one that brings it up
        "library: ActorBusy",  # the task of timers
        "library: ActorCrashed",  # the end of an incarnation
    }
    assert {what: protected[what] for what in library} == {what: {True} for what in library}
    users = {"user: task", "user: init", "user: handler", "user: terminate", "user: body"}
    assert {what: protected[what] for what in users} == {what: {False} for what in users}


LOOPS = (Incarnation.run.__code__, ActorRef.call.__code__, ActorRef.cast.__code__)
"""Where ^C could come between a message and its end."""


@pytest.mark.parametrize("capacity", [0, 1, math.inf])
def test_no_message_vanishes_wherever_it_strikes(capacity: float) -> None:
    """At the beginning of every call that an actor's loop, call() and cast() make, and at the end of what is written
    in C (CPython looks for signals then, and at jumps back): each cast is handled or reported, each call answered.
    """
    for step in range(1, 10_000):
        if strike_at(step, capacity) < step:
            assert step > 50
            return


def strike_at(step: int, capacity: float) -> int:
    """The number of those calls."""
    steps = 0
    armed = False
    log = Log()
    answers: list[object] = []
    casts = 0

    def strike(frame: types.FrameType, event: str, arg: object) -> None:
        nonlocal steps
        within = frame.f_back if event == "call" else frame
        if armed and event != "return" and within is not None and within.f_code in LOOPS:
            steps += 1
            if steps == step:
                signal.raise_signal(signal.SIGINT)

    async def ask(ref: ActorRef, message: Call[Any]) -> None:
        try:
            with trio.fail_after(1e3):
                answers.append(await ref.call(message, math.inf))
        except (ActorDown, ActorStopped, KeyboardInterrupt) as error:
            answers.append(error)

    async def tell(ref: ActorRef) -> None:
        nonlocal casts
        try:
            with trio.fail_after(1e3):
                await ref.cast(Add())
            casts += 1
        except ActorStopped:
            pass
        except KeyboardInterrupt:
            log.add("raised")  # and it may have been accepted, or not

    async def run() -> None:
        nonlocal armed
        async with trio.open_nursery() as outside:
            try:
                async with system(log) as s:
                    a = await s.start_child(child("a", log, mailbox=Mailbox(capacity=capacity)))
                    sys.setprofile(strike)
                    armed = True
                    for message in (Get(), Defer(1.0), Nap(1.0), Get()):
                        outside.start_soon(tell, a)
                        outside.start_soon(ask, a, message)
                    await trio.sleep(5)
                    armed = False
            except KeyboardInterrupt:
                log.add("raised")

    try:
        run_seeded(run, seed=step, limit=1e5)
    except KeyboardInterrupt:
        log.add("raised")
    finally:
        sys.setprofile(None)
    assert len(answers) == 4, (step, answers)
    struck = any(isinstance(answer, KeyboardInterrupt) for answer in answers)
    assert steps < step or struck or log.of("raised"), step
    assert len(log.of("add")) + len(log.seen(Undelivered)) >= casts, (step, log.lines, log.events)
    return steps
