"""Who holds the loop, who uses the processor, who is at one message for too long, and what a timeout says."""

from __future__ import annotations

import gc
import math
import random

import pytest
import trio

from supervision import (
    Actor,
    ActorBusy,
    ActorRef,
    ActorStuck,
    Backoff,
    Call,
    CallTimeout,
    Cast,
    ChildSpec,
    DynamicSupervisorSpec,
    Event,
    InvalidSpec,
    LoopHeld,
    StepClocks,
    StopReason,
    handles,
    open_system,
)
from supervision.testing import run_seeded
from tests.supervision.world import (
    NOW,
    Add,
    Counter,
    Crash,
    Defer,
    Get,
    Log,
    Nap,
    child,
    seeded,
    settle,
    system,
)


class Stopwatch:
    """Both clocks of a test: real work is what the test says it is."""

    def __init__(self) -> None:
        self.time = 0.0
        self.reads = 0

    def work(self, seconds: float) -> None:
        self.time += seconds

    def read(self) -> float:
        self.reads += 1
        return self.time

    @property
    def clocks(self) -> StepClocks:
        return StepClocks(wall=self.read, cpu=self.read)


class Work(Call[None], frozen=True):
    """Hold the loop: before and after a wait, in a task, in a task of a nursery."""

    where: str
    seconds: float = 0.3


class Hard(Cast, frozen=True):
    """Hold the loop."""


class Worker(Actor):
    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    async def init(self) -> None:
        self.watch.work(0.01)

    @handles(Work)
    async def work(self, message: Work) -> None:
        if message.where == "before":
            self.watch.work(message.seconds)
            await trio.sleep(1)
        elif message.where == "after":
            await trio.sleep(1)
            self.watch.work(message.seconds)
            await trio.sleep(1)
        elif message.where == "end":
            await trio.sleep(1)
            self.watch.work(message.seconds)
        elif message.where == "task":
            self.context.start_task(self._later, message.seconds, name="later")
        elif message.where == "nursery":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._later, message.seconds)

    async def _later(self, seconds: float) -> None:
        await trio.sleep(1)
        self.watch.work(seconds)
        await trio.sleep(1)
        self.watch.work(0.01)

    @handles(Get)
    def get(self, message: Get) -> int:
        self.watch.work(0.3)
        return 1

    @handles(Add)
    def add(self, message: Add) -> None:
        self.watch.work(0.06)

    @handles(Hard)
    def hard(self, message: Hard) -> None:
        self.watch.work(0.3)

    @handles(Crash)
    def crash(self, message: Crash) -> None:
        self.watch.work(0.3)
        raise ValueError

    async def terminate(self, reason: StopReason) -> None:
        self.watch.work(0.01)


@seeded()
async def test_who_holds_the_loop_is_told() -> None:
    log = Log()
    watch = Stopwatch()
    async with system(log, loop_alarm=0.1, step_clocks=watch.clocks) as s:
        ref = await s.start_child(ChildSpec("a", lambda: Worker(watch), backoff=NOW))

        async def told(message: Work | Get) -> LoopHeld:
            before = len(log.seen(LoopHeld))
            await ref.call(message)
            await trio.sleep(5)
            _, *held = log.seen(LoopHeld)[before - 1 :] if before else [None, *log.seen(LoopHeld)]
            (event,) = held
            assert event.path == "t/a"
            assert event.seconds == pytest.approx(0.3)
            return event

        for where in ("before", "after"):
            event = await told(Work(where))
            assert (event.task, event.message_type) == ("t/a", "Work")
            assert event.where.startswith(__file__)
            assert event.where.endswith("in Worker.work")
        for message in (Work("end"), Get()):
            event = await told(message)
            assert event.message_type == type(message).__qualname__
            assert "incarnation.py" in event.where  # back in the loop of its mailbox
        for where in ("task", "nursery"):
            event = await told(Work(where))
            assert event.message_type is None
            assert event.where.endswith("in Worker._later")
            assert (event.task == "t/a#1/later") is (where == "task")
        assert await told(Get())
        # the last step of a life is the actor's, too
        log.events.clear()
        await ref.cast(Crash())
        await settle()
        (event,) = log.seen(LoopHeld)
        assert (event.path, event.where, event.message_type) == ("t/a", "its end", "Crash")


@seeded()
async def test_the_alarm_is_for_a_step_and_names_what_took_the_longest_of_it() -> None:
    log = Log()
    watch = Stopwatch()
    async with system(log, loop_alarm=0.3, step_clocks=watch.clocks) as s:
        ref = await s.start_child(ChildSpec("a", lambda: Worker(watch), backoff=NOW))
        ref.cast_nowait(Add())
        await settle()
        assert log.seen(LoopHeld) == []  # 0.06 s
        for _ in range(4):
            ref.cast_nowait(Add())
        await settle()
        assert log.seen(LoopHeld) == []  # 0.24 s
        for message in (Add(), Add(), Hard(), Add()):
            ref.cast_nowait(message)
        await settle()
        (event,) = log.seen(LoopHeld)  # handled in one step
        assert event.message_type == "Hard"
        assert event.seconds == pytest.approx(3 * 0.06 + 0.3)


@seeded()
async def test_tasks_of_nobody_have_their_name() -> None:
    log = Log()
    watch = Stopwatch()

    async def foreign() -> None:
        await trio.sleep(1)
        watch.work(7.0)

    watch.work(1000.0)  # a real clock does not begin at 0
    async with system(log, loop_alarm=0.1, step_clocks=watch.clocks):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(foreign, name="somebody's")
        (event,) = log.seen(LoopHeld)
        assert (event.path, event.task, event.seconds) == ("somebody's", "somebody's", 7.0)
        assert (event.where, event.message_type) == ("its end", None)


def test_the_real_clocks_are_used_by_default() -> None:
    log = Log()

    async def run() -> None:
        import time

        async with system(log, loop_alarm=0.02, cpu_time=True) as s:
            ref = await s.start_child(child("a", on_init=lambda _: time.sleep(0.03)))
            assert 0.0 < ref.statistics().cpu_seconds < 0.03  # asleep it uses none

    trio.run(run)
    (event,) = [event for event in log.seen(LoopHeld) if event.path == "t/a"]
    assert event.where.endswith(" in Incarnation.run")
    assert 0.03 <= event.seconds < 3


@pytest.mark.parametrize("how", ["leave", "raise", "cancel"])
def test_the_instrument_is_gone_with_its_system(how: str) -> None:
    watch = Stopwatch()

    @seeded()
    async def run() -> None:
        with trio.CancelScope() as scope:
            try:
                async with open_system(
                    "t", random=random.Random(1), loop_alarm=0.1, cpu_time=True, step_clocks=watch.clocks
                ) as s:
                    await s.start_child(child("a"))
                    assert watch.reads > 0
                    if how == "raise":
                        raise ValueError("of the body")
                    if how == "cancel":
                        scope.cancel()
                        await trio.sleep(1)
            except ValueError:
                pass
        before = watch.reads
        await settle()
        assert watch.reads == before

    run()


def test_a_listeners_interrupt_is_not_lost() -> None:
    watch = Stopwatch()

    async def run() -> None:
        async with system(loop_alarm=0.1, step_clocks=watch.clocks) as s:

            def interrupt(event: Event) -> None:
                if isinstance(event, LoopHeld):
                    raise KeyboardInterrupt

            s.events.subscribe(interrupt)
            ref = await s.start_child(ChildSpec("a", lambda: Worker(watch)))
            await ref.call(Get())
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        run_seeded(run, seed=0)


@seeded()
async def test_the_processors_time_is_the_places() -> None:
    watch = Stopwatch()
    async with system(cpu_time=True, step_clocks=watch.clocks) as s:
        ref = await s.start_child(ChildSpec("a", lambda: Worker(watch), backoff=NOW))
        other = await s.start_child(child("other"))
        assert ref.statistics().cpu_seconds == pytest.approx(0.01)  # init
        await ref.call(Work("before"))
        await ref.call(Work("task"))
        await trio.sleep(5)
        await ref.call(Work("nursery"))
        assert ref.statistics().cpu_seconds == pytest.approx(0.01 + 0.3 + 2 * 0.31)
        await ref.cast(Crash())
        await settle()
        node = s.tree().find("t/a")
        assert node is not None
        assert node.incarnation == 2
        assert node.cpu_seconds == pytest.approx(0.93 + 0.3 + 0.01 + 0.01)  # the crash, terminate, init again
        assert other.statistics().cpu_seconds == 0.0
        assert "; cpu 1.2 s; last crash" in s.tree().render()
        assert s.tree().root.cpu_seconds is None
        await s.stop_child("a")
        assert ref.statistics().cpu_seconds == pytest.approx(1.26)


@seeded(seeds=1)
async def test_what_is_not_measured_is_not_there_and_costs_nothing() -> None:
    async with system() as s:
        ref = await s.start_child(child("a"))
        assert s._system.watch is None
        assert ref.place.handlers is Counter.__handlers__
        assert ref.statistics().cpu_seconds is None
        assert "cpu" not in s.tree().render()
    watch = Stopwatch()
    async with system(cpu_time=True, step_clocks=watch.clocks) as s:
        ref = await s.start_child(child("a"))
        assert ref.place.handlers is Counter.__handlers__  # only the alarms look at messages


@seeded(seeds=1)
async def test_forgotten_places_are_forgotten_here_too() -> None:
    watch = Stopwatch()
    async with system(cpu_time=True, step_clocks=watch.clocks) as s:
        d = await s.start_child(DynamicSupervisorSpec("d"))
        keeps = await d.start_child(ChildSpec("keeps", lambda: Worker(watch)))
        for i in range(1000):
            await d.start_child(ChildSpec(f"c{i}", lambda: Worker(watch)))
            await d.stop_child(f"c{i}")
        inner = s._system.watch
        assert len(inner._seconds) <= 128
        assert len(inner._owners) == 1
        assert keeps.statistics().cpu_seconds == pytest.approx(0.01)


def test_bad_alarms() -> None:
    async def run(alarm: float) -> None:
        async with system(loop_alarm=alarm):
            pass

    for alarm in (0.0, -1.0, math.nan):
        with pytest.raises(InvalidSpec, match="loop_alarm must be above 0 seconds"):
            trio.run(run, alarm)
        with pytest.raises(InvalidSpec, match="busy_alarm must be above 0 seconds"):
            child("a", busy_alarm=alarm)


# ---- busy


class Long(Cast, frozen=True):
    seconds: float


class Longer(Long, frozen=True):
    pass


class Slow(Counter):
    @handles(Long)
    async def long(self, message: Long) -> None:
        await trio.sleep(message.seconds)


@seeded()
async def test_a_handler_that_is_long_at_one_message_is_told_at_doubling_times() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(ChildSpec("a", Slow, busy_alarm=10.0))
        before = trio.current_time()
        times: list[float] = []
        s.events.subscribe(
            lambda event: times.append(trio.current_time() - before) if isinstance(event, ActorBusy) else None
        )
        await ref.cast(Long(75.0))
        await ref.cast(Longer(15.0))
        await ref.cast(Long(9.0))
        await ref.call(Get(), math.inf)
        await trio.sleep(100)
        busy = log.seen(ActorBusy)
        assert [(event.message_type, event.seconds) for event in busy] == [
            ("Long", 10.0),
            ("Long", 20.0),
            ("Long", 40.0),
            ("Longer", 10.0),
        ]
        assert times == pytest.approx([10, 20, 40, 85])
        assert {(event.path, event.incarnation) for event in busy} == {("t/a", 1)}
        assert all(event.where.startswith(__file__) and event.where.endswith("in Slow.long") for event in busy)
        assert s.statistics().timers == 0


@seeded()
async def test_who_has_answered_later_or_has_ended_is_not_busy() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(ChildSpec("a", Slow, busy_alarm=10.0, backoff=NOW, shutdown=1.0))
        assert await ref.call(Defer(50.0), math.inf) == "later"  # its handler has long returned
        await ref.cast(Long(1000.0))
        await settle()
        await s.restart_child("a")
        await trio.sleep(100)
        assert log.seen(ActorBusy) == []
        await ref.cast(Long(11.0))
        await trio.sleep(20)
        (event,) = log.seen(ActorBusy)
        assert event.incarnation == 2


@seeded()
async def test_who_is_stuck_stays_busy() -> None:
    log = Log()
    release = trio.Event()

    class Stubborn(Actor):
        @handles(Add)
        async def add(self, message: Add) -> None:
            with trio.CancelScope(shield=True):
                await release.wait()

    async with system(log) as s:
        ref = await s.start_child(ChildSpec("a", Stubborn, busy_alarm=10.0, shutdown=1.0))
        await ref.cast(Add())
        await settle()

        async def let_go() -> None:
            await trio.sleep(50)
            release.set()

        trio.lowlevel.spawn_system_task(let_go)
    assert [event.seconds for event in log.seen(ActorBusy)] == [10.0, 20.0, 40.0]
    (stuck,) = log.seen(ActorStuck)
    assert any(line.endswith("Stubborn.add") for line in stuck.stack)


# ---- what a timeout says


class Ask(Call[int], frozen=True):
    """Ask another."""


@pytest.mark.parametrize(
    ("what", "doing"),
    [
        ("handling", "has been handling Nap for 2 s, at"),
        ("asking", "has been handling Ask for 2 s, waiting for t/other, at"),
        ("restarting", "has been waiting for its restart for 2 s"),
        ("initializing", "has been starting (in init) for 2 s, at"),
        ("terminating", "has been ending for 2 s, at"),
        ("deferring", "is idle, with 1 replies owed"),
    ],
)
def test_a_timeout_names_target_message_queue_and_what_the_callee_does_since_when(what: str, doing: str) -> None:
    class Callee(Counter):
        def __init__(self, other: ActorRef) -> None:
            super().__init__()
            self.other = other

        async def init(self) -> None:
            if what == "initializing" and self.context.incarnation == 2:
                await trio.sleep(50)

        async def terminate(self, reason: StopReason) -> None:
            if what == "terminating":
                await trio.sleep(50)

        @handles(Ask)
        async def ask(self, message: Ask) -> int:
            return await self.other.call(Get(), math.inf)

    async def swallow(ref: ActorRef, message: Call[object]) -> None:
        await ref.call(message, math.inf)

    @seeded()
    async def run() -> None:
        backoff = Backoff(initial=100.0, maximum=100.0, jitter=0) if what == "restarting" else NOW
        async with system() as s, trio.open_nursery() as nursery:
            other = await s.start_child(child("other", shutdown=0))
            ref = await s.start_child(ChildSpec("a", lambda: Callee(other), backoff=backoff, shutdown=60))
            await trio.sleep(3)
            if what == "handling":
                nursery.start_soon(swallow, ref, Nap(100.0))
            elif what == "deferring":
                nursery.start_soon(swallow, ref, Defer(100.0))
            elif what == "asking":
                nursery.start_soon(swallow, other, Nap(100.0))
                await settle()
                nursery.start_soon(swallow, ref, Ask())
            else:
                await ref.cast(Crash())
            await trio.sleep(1)
            if what == "deferring":
                with pytest.raises(CallTimeout) as caught:
                    await ref.call(Defer(), timeout=0.5)
                assert "it had been begun" in str(caught.value)
                assert "is idle, with 2 replies owed" in str(caught.value)
                nursery.cancel_scope.cancel()
                return
            ref.cast_nowait(Add())
            with pytest.raises(CallTimeout) as caught:
                await ref.call(Get(), timeout=1.0)
            error = caught.value
            assert (error.target, error.message, error.timeout, error.queued) == ("t/a", Get(), 1.0, 2)
            assert not error.begun
            assert error.doing.startswith(doing)
            if doing.endswith("at"):
                assert ".py:" in error.doing
            for part in ("Get to t/a", "within 1 s", "withdrawn unbegun", "2 queued", doing):
                assert part in str(error)
            nursery.cancel_scope.cancel()

    run()
    gc.collect()
