"""Hibernation: an idle actor without a task behaves as one with a task, in every respect."""

from __future__ import annotations

import contextvars
import math
from typing import Any

import pytest
import trio

from supervision import (
    Actor,
    ActorDown,
    ActorEnded,
    ActorRef,
    Call,
    Cast,
    ChildSpec,
    Down,
    InvalidSpec,
    LinkBroken,
    Reply,
    SupervisionError,
    Undelivered,
    handles,
)
from supervision.testing import InjectedFault, cancel_sweep
from tests.supervision.test_testing import check_lives
from tests.supervision.world import (
    NOW,
    Add,
    Boom,
    Counter,
    Crash,
    CrashCall,
    Get,
    Log,
    Nap,
    Quit,
    child,
    seeded,
    settle,
    system,
)


def sleeper(log: Log | None = None, name: str = "a", after: float = 10.0, **options: Any) -> ChildSpec:
    return child(name, log, hibernate_after=after, **options)


def hibernates(ref: ActorRef) -> bool:
    return ref.statistics().hibernated


@seeded()
async def test_an_idle_actor_hibernates_and_the_next_message_resumes_it() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(sleeper(log))
        await ref.cast(Add(1))
        await trio.sleep(9.9)
        assert not hibernates(ref)
        await trio.sleep(0.2)
        assert hibernates(ref)
        assert ref.state == "running"
        assert "running, hibernated 10.1 s" in str(s.tree())
        assert ref.place.life is not None
        assert ref.place.life.task is None
        statistics = s.statistics()
        assert (statistics.actors, statistics.hibernated, statistics.timers) == (1, 1, 0)

        assert await ref.call(Get()) == 1  # the same object
        assert not hibernates(ref)
        assert s.statistics().hibernated == 0
        await trio.sleep(11)
        assert hibernates(ref)
    assert log.of("init") == [("a", 1)]
    assert log.of("terminate") == [("a", 1, "shutdown", False)]
    assert (s.statistics().actors, s.statistics().hibernated) == (0, 0)


@seeded()
async def test_a_busy_actor_does_not_hibernate_and_arms_one_timer() -> None:
    async with system() as s:
        ref = await s.start_child(sleeper())
        timers = ref.place.system.timers
        before = timers._sequence
        for _ in range(1000):
            ref.cast_nowait(Add())
            await trio.sleep(0.1)
        assert not hibernates(ref)
        assert timers._sequence - before <= 11  # 100 seconds, one look in ten
        assert len(timers) <= 1
        await ref.call(Nap(30.0), math.inf)
        assert not hibernates(ref)
        await trio.sleep(10.5)
        assert hibernates(ref)


class Wakes(Counter):
    """Sets a timer, watches another, keeps a reply."""

    other: ActorRef | None = None
    reply: Reply[Any] | None = None

    @handles(Down)
    def down(self, message: Down) -> None:
        self.log.add("down", message.path)

    async def init(self) -> None:
        await super().init()
        self.context.send_after(100, Add(7))
        if self.other is not None:
            self.context.monitor(self.other)

    @handles(CrashCall)
    def keep(self, message: CrashCall) -> int:
        if self.reply is None:
            self.reply = self.context.defer_reply()
            return 0
        self.reply.send(1)
        return 2


@seeded()
async def test_timers_downs_and_owed_replies_outlast_hibernation() -> None:
    log = Log()
    async with system(log) as s:
        other = await s.start_child(child("other", restart="temporary"))

        def make() -> Wakes:
            made = Wakes(log)
            made.other = other
            return made

        ref = await s.start_child(ChildSpec("a", make, hibernate_after=5.0))
        answers: list[int] = []

        async def ask() -> None:
            answers.append(await ref.call(CrashCall(), math.inf))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(20)
            assert hibernates(ref)
            assert ref.statistics().deferred == 1
            other.cast_nowait(Crash())
            await settle()
            assert log.of("down") == [("t/other",)]
            await trio.sleep(20)
            assert hibernates(ref)
            await trio.sleep(61)
            assert log.of("add") == [("a", 7)]
            await trio.sleep(20)
            assert hibernates(ref)
            assert await ref.call(CrashCall()) == 2
        assert answers == [1]


@seeded()
async def test_stop_restart_and_crash_of_an_actor_that_hibernates() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(sleeper(log))
        downs: list[Down] = []
        ref.monitor(downs.append)
        await trio.sleep(20)
        assert hibernates(ref)
        await s.restart_child("a")
        assert log.of("terminate") == [("a", 1, "shutdown", True)]
        assert [(down.incarnation, down.reason.restarting) for down in downs] == [(1, True)]
        await trio.sleep(20)
        assert hibernates(ref)
        ref.cast_nowait(Crash())
        assert await ref.call(Get()) == 0
        await trio.sleep(20)
        assert hibernates(ref)
        ref.cast_nowait(Quit())
        await settle()
        assert ref.place.number == 4
        await trio.sleep(20)
        await s.stop_child("a")
        assert [line[1:3] for line in log.of("terminate")] == [
            (1, "shutdown"),
            (2, "crash"),
            (3, "normal"),
            (4, "shutdown"),
        ]
    check_lives(log)


@seeded()
async def test_a_linked_crash_reaches_an_actor_that_hibernates() -> None:
    log = Log()
    async with system(log) as s:
        other = await s.start_child(child("other", restart="temporary"))

        class Linked(Counter):
            async def init(self) -> None:
                self.context.link(other)

        ref = await s.start_child(
            ChildSpec("a", lambda: Linked(log), hibernate_after=5.0, restart="temporary", backoff=NOW)
        )
        await trio.sleep(20)
        assert hibernates(ref)
        other.cast_nowait(Crash())
        await settle()
        ended = [event for event in log.seen(ActorEnded) if event.path == "t/a"]
        assert [type(event.reason.error) for event in ended] == [LinkBroken]


class StartsTask(Cast, frozen=True):
    seconds: float
    crash: bool = False


class Tasks(Counter):
    @handles(StartsTask)
    def start(self, message: StartsTask) -> None:
        async def task() -> None:
            await trio.sleep(message.seconds)
            if message.crash:
                raise Boom

        self.context.start_task(task)


@seeded()
async def test_an_actor_hibernates_only_when_its_tasks_have_ended() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(ChildSpec("a", lambda: Tasks(log), hibernate_after=10.0, backoff=NOW))
        ref.cast_nowait(StartsTask(30.0))
        await trio.sleep(39)
        assert not hibernates(ref)
        await trio.sleep(2)
        assert hibernates(ref)
        ref.cast_nowait(StartsTask(30.0, crash=True))
        await trio.sleep(31)
        assert log.of("init") == [("a", 1), ("a", 2)]
        check_lives_so_far(log)


def check_lives_so_far(log: Log) -> None:
    assert [line[1] for line in log.of("terminate")] == [line[1] for line in log.of("init")][:-1]


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


class Remember(Call[str], frozen=True):
    """The variable's value, and a new one."""

    value: str


class Remembers(Actor):
    @handles(Remember)
    async def remember(self, message: Remember) -> str:
        before = variable.get("none")
        variable.set(message.value)
        return before


@seeded()
async def test_context_variables_outlast_hibernation_but_not_the_incarnation() -> None:
    async with system() as s:
        ref = await s.start_child(ChildSpec("a", Remembers, hibernate_after=1.0))
        assert await ref.call(Remember("one")) == "none"
        await trio.sleep(2)
        assert hibernates(ref)
        assert await ref.call(Remember("two")) == "one"
        await trio.sleep(2)
        assert hibernates(ref)
        await s.restart_child("a")
        assert await ref.call(Remember("three")) == "none"


@seeded()
async def test_a_handler_is_cut_off_after_hibernation_as_before_it() -> None:
    """The cancel scope that was given back is there again."""
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(sleeper(log, shutdown=2.0))
        assert await ref.call(Nap(1.0)) == "rested"
        await trio.sleep(20)
        assert hibernates(ref)
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ActorDown, match="killed"):
                    await ref.call(Nap(1000.0), math.inf)

            nursery.start_soon(ask)
            await settle()
            before = trio.current_time()
            await s.stop_child("a")
            assert trio.current_time() - before == pytest.approx(2.0)
        assert log.of("terminate") == [("a", 1, "killed", False)]


@seeded(seeds=20)
async def test_a_message_in_the_step_in_which_its_actor_would_hibernate() -> None:
    """From the same clock tick: it is handled at once, by a task that stays or by a new one."""
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(sleeper(log, after=10.0))
        start = trio.current_time()
        answers: list[float] = []

        async def ask(at: float) -> None:
            await trio.sleep_until(start + at)
            assert await ref.call(Get(), timeout=1.0) == 0
            answers.append(trio.current_time() - start)

        async def cast(at: float) -> None:
            await trio.sleep_until(start + at)
            ref.cast_nowait(Add(0))

        async with trio.open_nursery() as nursery:
            for at in (10.0, 20.0, 30.0):
                nursery.start_soon(ask, at)
                nursery.start_soon(cast, at)
        assert answers == pytest.approx([10.0, 20.0, 30.0])
        assert len(log.of("add")) == 3
        assert log.of("init") == [("a", 1)]


@seeded(seeds=20)
async def test_a_stop_in_the_step_in_which_its_actor_would_hibernate() -> None:
    log = Log()
    async with system(log) as s:
        await s.start_child(sleeper(log, after=10.0))
        await trio.sleep_until(s.child("a").place.since + 10.0)  # type: ignore[union-attr]
        before = trio.current_time()
        await s.stop_child("a")
        assert trio.current_time() == before
        assert log.of("terminate") == [("a", 1, "shutdown", False)]
        assert s.statistics().timers == 0


@seeded()
async def test_the_end_of_the_world_around_reaches_who_hibernates() -> None:
    log = Log()
    with trio.CancelScope() as outer:
        async with system(log) as s:
            for name in "abc":
                await s.start_child(sleeper(log, name))
            await trio.sleep(20)
            assert s.statistics().hibernated == 3
            outer.cancel()
            await trio.sleep_forever()
    assert log.of("terminate") == [(name, 1, "cancelled", False) for name in "cba"]


def test_bad_hibernate_after() -> None:
    for after in (0, -1, math.nan):
        with pytest.raises(InvalidSpec, match="hibernate_after must be above 0 seconds, or None"):
            ChildSpec("a", Remembers, hibernate_after=after)


class Hibernating:
    """Messages, a crash, timers, a restart by hand and a stop, with naps between them; cut anywhere."""

    def __init__(self) -> None:
        self.log = Log()
        self.accepted: list[int] = []
        self.asked = self.ended = 0

    async def run(self) -> None:
        try:
            async with system(self.log) as s:
                self.s = s
                ref = await s.start_child(ChildSpec("a", lambda: Wakes(self.log), hibernate_after=1.0, backoff=NOW))
                b = await s.start_child(sleeper(self.log, "b", after=1.0))
                for n in range(4):
                    ref.cast_nowait(Add(n))
                    self.accepted.append(n)
                    await trio.sleep(2)
                    if n == 1:
                        ref.cast_nowait(Crash())
                await self.ask(ref)
                await s.restart_child("b")
                await trio.sleep(200)
                await self.ask(b)
                await trio.sleep(2)
        finally:
            self.done = True

    async def ask(self, ref: ActorRef) -> None:
        self.asked += 1
        try:
            await ref.call(Nap(0.5), timeout=3.0)
        except SupervisionError:
            pass
        finally:
            self.ended += 1

    def check(self, error: BaseException | None) -> None:
        assert error is None or isinstance(error, InjectedFault)
        check_lives(self.log)
        assert self.asked == self.ended
        handled = [line[1] for line in self.log.of("add") if line[1] != 7]
        lost = [e.message.n for e in self.log.seen(Undelivered) if isinstance(e.message, Add) and e.message.n != 7]
        assert sorted(handled + lost) == self.accepted
        assert handled == sorted(handled)
        if hasattr(self, "s"):
            statistics = self.s.statistics()
            assert (statistics.actors, statistics.hibernated, statistics.timers) == (0, 0, 0)


def test_hibernation_cut_at_any_step() -> None:
    assert cancel_sweep(Hibernating, seeds=range(3)).runs > 200
