"""Each fault, and at every step around it a second one: a cancellation, a deadline, an error, ^C.

Whatever meets, each call ends once, each init() that succeeded has its terminate(), nothing is left.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter as Tally
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest
import trio
from trio.testing import MockClock

from supervision import (
    ActorEnded,
    ActorRef,
    ActorRestarted,
    ActorStarted,
    Backoff,
    Cast,
    ChildSpec,
    Down,
    DynamicSupervisorSpec,
    Event,
    IntensityExceeded,
    Mailbox,
    StopReason,
    SupervisionError,
    SupervisorRef,
    SupervisorSpec,
    handles,
)
from supervision.testing import InjectedFault, cancel_sweep
from tests.supervision.world import (
    NOW,
    THOROUGH,
    Add,
    Boom,
    Counter,
    Crash,
    Defer,
    Get,
    Log,
    Nap,
    child,
    sweep_seeds,
    system,
)


class Do(Cast, frozen=True):
    """Run a function in the handler."""

    act: Callable[[Faulty], Awaitable[object]]


class Poison(Cast, frozen=True):
    redeliver: ClassVar[int] = 2


class Faulty(Counter):
    def __init__(self, stage: Stage) -> None:
        super().__init__(stage.log)
        self.stage = stage

    async def init(self) -> None:
        if self.context.incarnation > 1:
            await self.stage.at_restart()
        await super().init()

    async def terminate(self, reason: StopReason) -> None:
        await super().terminate(reason)
        await self.stage.at_terminate()

    @handles(Do)
    async def do(self, message: Do) -> None:
        await message.act(self)

    @handles(Poison)
    def poison(self, message: Poison) -> None:
        raise Boom("poisoned")


async def nothing() -> None:
    pass


class Stage:
    """A group of two, a dynamic supervisor with one, and callers of all of them; then the fault."""

    def __init__(self, fault: Callable[[Stage], Awaitable[object]]) -> None:
        self.fault = fault
        self.log = Log()
        self.at_restart: Callable[[], Awaitable[object]] = nothing
        self.at_terminate: Callable[[], Awaitable[object]] = nothing
        self.asked = self.answered = 0
        self.left: set[trio.lowlevel.Task] = set()
        self.system: Any = None

    def spec(self, name: str, **options: Any) -> ChildSpec:
        options.setdefault("backoff", NOW)
        options.setdefault("shutdown", 2.0)
        return ChildSpec(name, lambda: Faulty(self), mailbox=Mailbox(capacity=3), **options)

    async def run(self) -> None:
        outer = trio.lowlevel.current_task()
        before = {task for nursery in outer.child_nurseries for task in nursery.child_tasks}
        try:
            async with system(self.log) as self.system:
                self.g: SupervisorRef = await self.system.start_child(
                    SupervisorSpec(
                        "g",
                        strategy="one_for_all",
                        max_restarts=4,
                        backoff=NOW,
                        children=[self.spec("a"), self.spec("b")],
                    )
                )
                self.d: SupervisorRef = await self.system.start_child(DynamicSupervisorSpec("d", max_restarts=100))
                self.c: ActorRef = await self.d.start_child(self.spec("c", backoff=Backoff(initial=0.5, jitter=0)))
                self.a: ActorRef = self.g.child("a")  # type: ignore[assignment]
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.ask, self.a, Nap(1.0), 3.0)
                    nursery.start_soon(self.ask, self.c, Defer(2.0), math.inf)
                    nursery.start_soon(self.ask, self.g.child("b"), Get(), 0.5)
                    await trio.sleep(0.1)
                    with contextlib.suppress(SupervisionError):
                        await self.fault(self)
                    await trio.sleep(3)
                    nursery.cancel_scope.cancel()
        finally:
            self.left = {task for nursery in outer.child_nurseries for task in nursery.child_tasks} - before

    async def ask(self, ref: Any, message: Any, timeout: float) -> None:
        self.asked += 1
        try:
            with contextlib.suppress(SupervisionError):
                await ref.call(message, timeout)
        finally:
            self.answered += 1

    def check(self, error: BaseException | None) -> None:
        pending = [] if error is None else [error]
        while pending:
            one = pending.pop()
            if isinstance(one, BaseExceptionGroup):
                pending.extend(one.exceptions)
            elif not isinstance(one, (InjectedFault, IntensityExceeded, KeyboardInterrupt)):
                raise AssertionError(f"unexpected: {one!r}") from one
        assert self.left == set(), f"tasks left: {self.left}"
        assert self.asked == self.answered
        inits, ends = Tally(self.log.of("init")), Tally(line[:2] for line in self.log.of("terminate"))
        assert set(inits.values()) | set(ends.values()) <= {1}
        assert set(inits) <= set(ends), f"no terminate: {set(inits) - set(ends)}"
        running: set[str] = set()
        for event in self.log.events:
            if isinstance(event, (ActorStarted, ActorRestarted)):
                assert event.path not in running, f"{event.path} overlaps"
                running.add(event.path)
            elif isinstance(event, ActorEnded):
                running.discard(event.path)
        assert running == set(), f"not ended: {running}"
        if self.system is not None:
            statistics = self.system.statistics()
            assert (statistics.actors, statistics.timers, statistics.names) == (0, 0, 0)


# ---- the faults


async def a_handler_raises(stage: Stage) -> None:
    await stage.a.cast(Crash())
    await stage.c.cast(Crash())


async def a_handler_raises_a_group(stage: Stage) -> None:
    async def act(_: Faulty) -> None:
        raise ExceptionGroup("both", [Boom("one"), ValueError("two")])

    await stage.a.cast(Do(act))


async def fail_when_cancelled(_: object = None) -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise Boom("in the cleanup")


async def mixed(_: object = None) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_when_cancelled)
        nursery.start_soon(trio.sleep_forever)


async def a_handler_raises_a_mixed_group(stage: Stage) -> None:
    await stage.c.cast(Do(mixed))
    await trio.sleep(0.1)
    await stage.d.restart_child("c")


async def init_raises(stage: Stage) -> None:
    left = [Boom("in init"), Boom("in init")]

    async def fail() -> None:
        if left:
            raise left.pop()

    stage.at_restart = fail
    await a_handler_raises(stage)


async def init_hangs(stage: Stage) -> None:
    stage.at_restart = trio.sleep_forever
    await a_handler_raises(stage)
    await trio.sleep(1)
    await stage.d.stop_child("c")


async def terminate_raises(stage: Stage) -> None:
    async def fail() -> None:
        await trio.sleep(0.1)
        raise Boom("in terminate")

    stage.at_terminate = fail
    await a_handler_raises(stage)


async def terminate_raises_a_mixed_group(stage: Stage) -> None:
    stage.at_terminate = mixed
    await a_handler_raises(stage)


async def terminate_hangs(stage: Stage) -> None:
    stage.at_terminate = trio.sleep_forever
    await stage.d.stop_child("c")


async def callbacks_raise(stage: Stage) -> None:
    def fail(_: Down | Event) -> None:
        raise Boom("a callback")

    stage.a.monitor(fail)
    stage.c.monitor(fail)
    stage.system.events.subscribe(fail)
    await a_handler_raises(stage)


async def a_reply_is_dropped(stage: Stage) -> None:
    class Forgets(Faulty):
        def defer(self, message: Defer) -> None:
            self.context.defer_reply()

    ref = await stage.d.start_child(ChildSpec("forgets", lambda: Forgets(stage), backoff=NOW))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.ask, ref, Defer(), 1.0)
        nursery.start_soon(stage.ask, ref, Defer(), math.inf)
        await trio.sleep(2)
        await ref.cast(Crash())
        await trio.sleep(0.1)
        nursery.start_soon(stage.ask, ref, Defer(), math.inf)
        await trio.sleep(0.1)
        await stage.d.stop_child("forgets")


async def it_replies_twice(stage: Stage) -> None:
    class Twice(Faulty):
        def defer(self, message: Defer) -> None:
            reply = self.context.defer_reply()
            reply.send("once")
            reply.send("twice")

    ref = await stage.d.start_child(ChildSpec("twice", lambda: Twice(stage), backoff=NOW))
    await stage.ask(ref, Defer(), 5.0)


async def it_swallows_cancelled(stage: Stage) -> None:
    async def swallow(_: Faulty) -> None:
        try:
            await trio.sleep_forever()
        except BaseException as error:
            if not isinstance(error, trio.Cancelled):
                raise

    await stage.c.cast(Do(swallow))
    await trio.sleep(0.1)
    await stage.d.stop_child("c")


async def a_task_crashes_later(stage: Stage) -> None:
    async def later() -> None:
        await trio.sleep(0.5)
        raise Boom("later")

    async def act(actor: Faulty) -> None:
        actor.context.start_task(later)
        actor.context.start_task(fail_when_cancelled)

    await stage.c.cast(Do(act))


async def rest(_: Faulty) -> None:
    await trio.sleep(0.5)


async def the_mailbox_is_full(stage: Stage) -> None:
    await stage.c.call(Get())
    await stage.c.cast(Do(rest))
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(_cast, stage.c)
        nursery.start_soon(stage.ask, stage.c, Get(), 0.5)
        nursery.start_soon(stage.ask, stage.c, Get(), 5.0)


async def _cast(ref: ActorRef) -> None:
    with contextlib.suppress(SupervisionError):
        await ref.cast(Add())


async def the_caller_leaves(stage: Stage) -> None:
    """Cancelled, timed out, crashed: while it is queued and while it is in hand."""
    for message in (Get(), Nap(0.5)):
        await stage.c.cast(Do(rest))
        with trio.move_on_after(0.1):
            await stage.ask(stage.c, message, math.inf)
        await stage.ask(stage.c, message, 0.1)

        async def crash(actor: Faulty, message: Any = message) -> None:
            actor.context.start_task(actor.stage.ask, actor.stage.c, message, math.inf)
            await trio.sleep(0.2)
            raise Boom("the caller")

        await stage.a.cast(Do(crash))
        await trio.sleep(0.5)


async def the_supervisor_crashes(stage: Stage) -> None:
    for _ in range(6):
        await stage.a.cast(Crash())


async def the_clock_jumps(stage: Stage) -> None:
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    await stage.c.cast(Crash())
    await trio.lowlevel.checkpoint()
    clock.jump(3600)


async def a_storm(stage: Stage) -> None:
    refs = [await stage.d.start_child(stage.spec(f"s{i}")) for i in range(8)]
    for ref in refs:
        ref.cast_nowait(Crash())
    await stage.a.cast(Crash())


async def a_poison_message(stage: Stage) -> None:
    await stage.c.cast(Poison())
    await stage.c.cast(Add())


async def a_storm_up_the_tree(stage: Stage) -> None:
    inner = SupervisorSpec("inner", max_restarts=1, backoff=NOW, children=[child("x", stage.log)])
    middle = SupervisorSpec("middle", max_restarts=1, backoff=NOW, children=[inner])
    ref = await stage.system.start_child(middle)
    x = ref.child("inner").child("x")
    for _ in range(4):
        await x.cast(Crash())
        await trio.sleep(0.1)


FAULTS = [
    a_handler_raises,
    a_handler_raises_a_group,
    a_handler_raises_a_mixed_group,
    init_raises,
    init_hangs,
    terminate_raises,
    terminate_raises_a_mixed_group,
    terminate_hangs,
    callbacks_raise,
    a_reply_is_dropped,
    it_replies_twice,
    it_swallows_cancelled,
    a_task_crashes_later,
    the_mailbox_is_full,
    the_caller_leaves,
    the_supervisor_crashes,
    the_clock_jumps,
    a_storm,
    a_poison_message,
    a_storm_up_the_tree,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_second_fault_at_every_step(fault: Callable[[Stage], Awaitable[object]]) -> None:
    every = 1 if THOROUGH else 7  # `make ci` takes every step
    report = cancel_sweep(
        lambda: Stage(fault), seeds=sweep_seeds(1), actions=["cancel", "timeout", "raise", "interrupt"], every=every
    )
    assert report.runs * every > 150
