"""What does not grow, however long it goes on, and what is left when a system has been closed: nothing."""

from __future__ import annotations

import contextlib
import gc
import importlib
import math
import pkgutil
import sys
import tracemalloc
from collections import Counter as Tally
from collections.abc import Awaitable, Callable

import msgspec
import pytest
import trio

import supervision
from supervision import (
    Actor,
    ActorDown,
    ActorRef,
    ActorSystem,
    CallTimeout,
    ChildSpec,
    Down,
    DynamicSupervisorSpec,
    SupervisorSpec,
    handles,
)
from supervision.testing import run_seeded
from tests.supervision.world import NOW, Add, Boom, Counter, Crash, Get, Nap, child, seeded, system

Rounds = Callable[[int], Awaitable[None]]


class Meter(msgspec.Struct, frozen=True):
    """What is counted, and how much more of it there may be, all told, after so many rounds."""

    read: Callable[[], int]
    slack: Callable[[int], float]


BYTES = Meter(lambda: tracemalloc.get_traced_memory()[0], lambda times: times / 12 + 2048)
"""Each byte, at a third of the speed."""
BLOCKS = Meter(sys.getallocatedblocks, lambda times: times / 200 + 256)
"""Every small object; what is kept of each round, or of each hundredth, can't hide."""


async def levels(rounds: Rounds, times: int, meter: Meter, points: int = 6) -> list[int]:
    """Readings after each of `points` equal parts of `times` rounds, the first parts being the warm-up."""
    measured: list[int] = []
    for _ in range(points):
        await rounds(times // points // 64 * 64)  # the heap of timers is looked at once in 64 entries
        await trio.sleep(100)  # virtual: what was started has ended
        gc.collect()
        measured.append(meter.read())
    return measured


def assert_level(measured: list[int], times: int, meter: Meter) -> None:
    """Within one percent, and by less than the meter allows; two readings are one point, because a list that is
    emptied and filled again keeps now more, now less room.
    """
    first, *rest = [measured[i : i + 2] for i in range(0, len(measured), 2)]
    for later in rest:
        for of in (min, max):
            assert of(first) * 0.99 <= of(later) <= of(first) * 1.01, measured
            assert of(later) - of(first) <= meter.slack(times), measured


def grow(make: Callable[[ActorSystem], Awaitable[Rounds]], times: int, meter: Meter) -> None:
    """Nothing grows in `times` rounds in a system of a few hundred actors."""

    async def run() -> None:
        async with system(max_restarts=10**9) as s:
            d = await s.start_child(DynamicSupervisorSpec("ballast"))
            for i in range(300):
                await d.start_child(ChildSpec(f"b{i}", Plain))
            rounds = await make(s)
            await rounds(256)
            await trio.sleep(100)
            assert_level(await levels(rounds, times, meter), times, meter)

    gc.collect()
    gc.freeze()  # what earlier tests of this process have left is not to go while it is counted
    if meter is BYTES:
        tracemalloc.start()
    try:
        run_seeded(run, seed=0, limit=1e9)
    finally:
        tracemalloc.stop()
        gc.unfreeze()


class Plain(Actor):
    def __init__(self) -> None:
        self.n = 0

    @handles(Get)
    def get(self, message: Get) -> int:
        return self.n

    @handles(Add)
    def add(self, message: Add) -> None:
        self.n = 1

    @handles(Crash)
    def crash(self, message: Crash) -> None:
        raise Boom("on demand")

    @handles(Nap)
    async def nap(self, message: Nap) -> str:
        await trio.sleep(message.seconds)
        return "rested"


async def calls(s: ActorSystem) -> Rounds:
    ref = await s.start_child(ChildSpec("a", Plain))

    async def rounds(times: int) -> None:
        for _ in range(times):
            await ref.call(Get(), timeout=3600.0)

    return rounds


async def restarts(s: ActorSystem) -> Rounds:
    ref = await s.start_child(ChildSpec("a", Plain, backoff=NOW))

    async def rounds(times: int) -> None:
        for _ in range(times):
            await ref.cast(Crash())
            await ref.call(Get())

    return rounds


async def timeouts(s: ActorSystem) -> Rounds:
    """Some withdrawn from the queue, some in hand."""
    ref = await s.start_child(ChildSpec("a", Plain))

    async def rounds(times: int) -> None:
        for _ in range(times // 2):
            with pytest.raises(CallTimeout):
                await ref.call(Nap(3.0), timeout=1.0)
            with pytest.raises(CallTimeout):
                await ref.call(Get(), timeout=1.0)
            await trio.sleep(2)

    return rounds


async def trees(s: ActorSystem) -> Rounds:
    """Started and stopped: a supervisor of three, with names, monitors, timers and tasks."""

    def busy(counter: Counter) -> None:
        counter.context.register(f"name of {counter.context.name}")
        counter.context.send_after(1e5, Add())
        counter.context.start_task(trio.sleep_forever)

    def forget(_: Down) -> None:
        pass

    async def rounds(times: int) -> None:
        for i in range(times):
            spec = SupervisorSpec(f"g{i % 7}", children=[child(name, on_init=busy) for name in "abc"])
            g = await s.start_child(spec)
            a = g.child("a")
            assert isinstance(a, ActorRef)
            a.monitor(forget)
            await s.stop_child(spec.name)
            await s.delete_child(spec.name)

    return rounds


async def hibernations(s: ActorSystem) -> Rounds:
    ref = await s.start_child(ChildSpec("a", Plain, hibernate_after=1.0))

    async def rounds(times: int) -> None:
        for _ in range(times):
            await ref.call(Get())
            await trio.sleep(2)
            assert ref.statistics().hibernated

    return rounds


KINDS = {calls: 8_000, restarts: 1_000, timeouts: 1_000, trees: 384, hibernations: 1_000}
FULL = {calls: 1_000_000, restarts: 100_000, timeouts: 100_000, trees: 10_000, hibernations: 100_000}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_nothing_grows(kind: Callable[[ActorSystem], Awaitable[Rounds]]) -> None:
    grow(kind, KINDS[kind], BYTES)


@pytest.mark.ci
@pytest.mark.parametrize("kind", FULL, ids=lambda kind: kind.__name__)
def test_nothing_grows_over_as_much_as_a_long_job_does(kind: Callable[[ActorSystem], Awaitable[Rounds]]) -> None:
    grow(kind, FULL[kind], BLOCKS)


@pytest.mark.parametrize("meter", [BYTES, BLOCKS], ids=["bytes", "blocks"])
def test_growth_is_noticed(meter: Meter) -> None:
    kept: list[object] = []

    async def leaking(s: ActorSystem) -> Rounds:
        rounds = await calls(s)

        async def leak(times: int) -> None:
            kept.extend(object() for _ in range(times // 10))
            await rounds(10)

        return leak

    with pytest.raises(AssertionError, match=r"^\[\d+, \d+"):
        grow(leaking, 20_000, meter)


@seeded(seeds=2)
async def test_only_crashes_within_the_window_are_remembered() -> None:
    async with system(max_restarts=1000, max_seconds=10.0) as s:
        ref = await s.start_child(ChildSpec("a", Plain, backoff=NOW))
        for _ in range(50):
            await ref.cast(Crash())
            await ref.call(Get())
            await trio.sleep(3)
        history = s._system.root.history
        assert [crash.incarnation for crash in history] == [47, 48, 49, 50]  # those of the last ten seconds


# ---- when it is over


def kinds_of(objects: list[object]) -> Tally[str]:
    """The instances of supervision's own classes, by class."""
    return Tally(
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in map(type, objects)
        # a compiled class may have a descriptor where others have the name
        if isinstance(kind.__module__, str)
        and kind.__module__.partition(".")[0] == "supervision"
        and not issubclass(kind, type)
    )


def internal_classes() -> set[str]:
    """Every class of supervision that has instances of its own while a system runs (errors, and what a user writes,
    apart).
    """
    found: set[str] = set()
    for module in pkgutil.iter_modules(supervision.__path__, "supervision."):
        if module.name != "supervision.testing":
            for kind in vars(importlib.import_module(module.name)).values():
                if isinstance(kind, type) and kind.__module__ == module.name and not issubclass(kind, BaseException):
                    found.add(f"{kind.__module__}.{kind.__qualname__}")
    return found


CORE = {
    "actor_place.ActorPlace",
    "context.Context",
    "events.Events",
    "incarnation.Incarnation",
    "loop_watch.LoopWatch",
    "mailbox.Inbox",
    "monitor.Monitor",
    "ref.ActorRef",
    "ref.SupervisorRef",
    "registry.Registry",
    "reply.ReplyCell",
    "supervisor.SupervisorPlace",
    "system.ActorSystem",
    "system.System",
    "tasks.ActorTask",
    "timers.Timer",
    "timers.Timers",
    "window.Window",
}
"""Of which the scenario below must have had instances, or the check proves nothing."""


@pytest.mark.parametrize("how", ["leave", "raise", "cancel"])
def test_nothing_of_a_system_is_left(how: str) -> None:
    """No instance of any class of ours, no task, no timer, no name, no instrument."""
    seen: Tally[str] = Tally()
    tasks_left: list[str] = []

    async def live() -> None:
        async with system(loop_alarm=1e9, cpu_time=True) as s:
            g = await s.start_child(SupervisorSpec("g", strategy="one_for_all", backoff=NOW, children=[child("a")]))
            d = await s.start_child(DynamicSupervisorSpec("d"))
            c = await d.start_child(child("c", hibernate_after=1.0, busy_alarm=5.0))
            a = g.child("a")
            assert isinstance(a, ActorRef)
            a.place.system.registry.register("named", a)
            a.monitor(print)
            c.place.life.keep(a.place.system.timers.after(1e5, gc.collect))  # type: ignore[union-attr]
            context = c.place.life.actor.context  # type: ignore[union-attr]
            context.start_task(trio.sleep_forever)
            await a.cast(Crash())
            await a.call(Get())
            a.monitor(lambda down: None)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(a.call, Nap(50.0), math.inf)
                await trio.sleep(3)
                seen.update(kinds_of(gc.get_objects()))
                nursery.cancel_scope.cancel()
            if how == "raise":
                raise Boom("of the body")
            if how == "cancel":
                await trio.sleep_forever()

    async def run() -> None:
        before = {task.name for task in gc.get_objects() if isinstance(task, trio.lowlevel.Task)}
        with trio.move_on_after(1000):
            with contextlib.suppress(Boom, ActorDown):
                await live()
        gc.collect()
        tasks_left.extend(
            task.name
            for task in gc.get_objects()
            if isinstance(task, trio.lowlevel.Task) and task.name not in before and task.name.startswith("t/")
        )

    gc.collect()
    before = kinds_of(gc.get_objects())
    run_seeded(run, seed=0)
    gc.collect()
    left = kinds_of(gc.get_objects()) - before
    assert left == Tally(), f"left: {left}"
    assert tasks_left == []
    assert {f"supervision.{name}" for name in CORE} <= set(seen)
    assert set(seen) & internal_classes() >= {f"supervision.{name}" for name in CORE}
