"""Faults one by one: what each of them does, and to whom. The whole list is in test_fault_model.py."""

from __future__ import annotations

import gc
import math
import threading
import weakref

import pytest
import trio
from trio.testing import MockClock

from supervision import (
    Actor,
    ActorCrashed,
    ActorDegraded,
    ActorDown,
    ActorEnded,
    ActorRef,
    ActorRestarting,
    ActorStopped,
    ActorStuck,
    AlreadyReplied,
    Backoff,
    Call,
    CallTimeout,
    ChildSpec,
    Down,
    DynamicSupervisorSpec,
    LateReply,
    ListenerFailed,
    Reply,
    StopReason,
    SupervisorSpec,
    handles,
)
from supervision.testing import run_seeded
from tests.supervision.world import (
    NOW,
    Add,
    Boom,
    Counter,
    Crash,
    CrashCall,
    Defer,
    Get,
    Log,
    Nap,
    child,
    seeded,
    settle,
    system,
)

# ---- what raises


def raise_group(_: object = None) -> None:
    raise ExceptionGroup("two at once", [Boom("one"), ValueError("two")])


async def raise_mixed(_: object = None) -> None:
    """A group of Boom and of the Cancelled of whoever stops it."""

    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom("in the cleanup")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_when_cancelled)
        nursery.start_soon(trio.sleep_forever)


@seeded()
async def test_a_group_out_of_init_is_raised_whole_at_the_starter_and_counts_at_a_restart() -> None:
    log = Log()
    fails = True

    def sometimes(_: Counter) -> None:
        if fails:
            raise_group()

    async with system(log) as s:
        spec = child("a", log, on_init=sometimes, max_restarts=3, max_seconds=1e4)
        with pytest.raises(ExceptionGroup, match="two at once") as caught:
            await s.start_child(spec)
        assert [type(error) for error in caught.value.exceptions] == [Boom, ValueError]
        fails = False
        ref = await s.start_child(spec)
        fails = True
        await ref.cast(Crash())
        await settle()
        assert ref.state == "degraded"
        (degraded,) = log.seen(ActorDegraded)
        assert [crash.error_type for crash in degraded.history] == ["Boom", *["ExceptionGroup"] * 3]


@seeded()
async def test_a_mixed_group_out_of_init_that_is_cancelled_is_the_starters() -> None:
    log = Log()
    async with system(log) as s:
        with trio.move_on_after(1) as scope, pytest.raises(ExceptionGroup) as caught:
            await s.start_child(child("a", log, on_init=raise_mixed))
        assert [type(error) for error in caught.value.exceptions] == [Boom]
        assert not scope.cancelled_caught
        assert s.children() == {}
        assert log.of("terminate") == []


@pytest.mark.parametrize("how", ["plain", "group", "mixed"])
def test_what_terminate_raises_is_a_crash_report_and_stops_nothing(how: str) -> None:
    class Fails(Counter):
        async def terminate(self, reason: StopReason) -> None:
            await super().terminate(reason)
            if how == "mixed":
                await raise_mixed()
            if how == "group":
                raise_group()
            raise Boom("plain")

    @seeded()
    async def run() -> None:
        log = Log()
        async with system(log) as s:
            await s.start_child(child("below", log))
            ref = await s.start_child(ChildSpec("a", lambda: Fails(log), shutdown=2.0, backoff=NOW))
            await ref.cast(Crash())
            assert await ref.call(Get(), 10.0) == 0  # it is restarted all the same
        assert [line[:2] for line in log.of("terminate")] == [("a", 1), ("a", 2), ("below", 1)]
        crashes = [event.crash for event in log.seen(ActorCrashed)]
        assert [crash.error_type for crash in crashes[1:]] == ["Boom" if how == "plain" else "ExceptionGroup"] * 2
        details = [event.reason.detail for event in log.seen(ActorEnded) if event.path == "t/a"]
        assert all("terminate() raised" in detail for detail in details)
        if how == "mixed":
            assert all("cut off at its deadline" in detail for detail in details)

    run()


@seeded()
async def test_a_monitors_callback_that_raises_disturbs_nobody() -> None:
    log = Log()
    downs: list[Down] = []

    def fail(_: Down) -> None:
        raise Boom("a callback")

    async with system(log) as s:
        ref = await s.start_child(child("a", log))
        ref.monitor(fail)
        ref.monitor(downs.append)
        await ref.cast(Crash())
        assert await ref.call(Get()) == 0
        assert [down.incarnation for down in downs] == [1]
        (failed,) = log.seen(ListenerFailed)
        assert (failed.path, type(failed.error)) == ("t/a", Boom)
        await s.stop_child("a")
        with pytest.raises(Boom):
            ref.monitor(fail)  # nobody is there: it is called at once, at whoever asks


# ---- replies


class Odd(Actor):
    """Takes replies over and keeps them."""

    def __init__(self, kept: list[Reply[str]]) -> None:
        self.kept = kept

    @handles(Defer)
    def defer(self, message: Defer) -> None:
        self.kept.append(self.context.defer_reply())

    @handles(Crash)
    def crash(self, message: Crash) -> None:
        raise Boom

    @handles(Get)
    def get(self, message: Get) -> None:
        """It returns nothing: that is its reply."""


@seeded()
async def test_a_reply_that_is_dropped_ends_as_a_timeout_that_says_so_or_with_the_actor() -> None:
    async with system() as s:
        ref = await s.start_child(ChildSpec("a", lambda: Odd([]), backoff=NOW))
        assert await ref.call(Get()) is None
        with pytest.raises(
            CallTimeout, match=r"it had been begun; 0 queued; the callee is idle, with 1 replies owed"
        ):
            await ref.call(Defer(), timeout=2.0)
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ActorDown, match="while it handled this call"):
                    await ref.call(Defer(), math.inf)

            nursery.start_soon(ask)
            await settle()
            await ref.cast(Crash())


@seeded()
async def test_a_reply_from_another_actor_or_after_the_end_changes_nothing() -> None:
    kept: list[Reply[str]] = []
    results: list[object] = []
    async with system() as s:
        ref = await s.start_child(ChildSpec("a", lambda: Odd(kept), backoff=NOW))

        async def ask() -> None:
            try:
                results.append(await ref.call(Defer(), math.inf))
            except ActorDown as down:
                results.append(type(down))

        class Stranger(Actor):
            @handles(Get)
            def get(self, message: Get) -> int:
                kept[0].send("from a stranger")
                return 1

        stranger = await s.start_child(ChildSpec("stranger", Stranger))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await settle()
            await stranger.call(Get())  # whoever holds it may answer: once
            await settle()
            assert results == ["from a stranger"]
            with pytest.raises(AlreadyReplied):
                kept[0].send("again")
            nursery.start_soon(ask)
            await settle()
            await ref.cast(Crash())
        assert results == ["from a stranger", ActorDown]
        assert not kept[1].wanted
        assert kept[1].send("from beyond") is False
        with pytest.raises(AlreadyReplied):
            kept[1].fail(Boom())
        assert s.statistics().late_replies == 1
        assert stranger.place.number == 1


# ---- callers


class Relay(Call[int], frozen=True):
    """Call another and crash meanwhile, or not."""


@pytest.mark.parametrize("how", ["crash", "stop", "kill"])
def test_a_caller_that_ends_leaves_its_callee_alone(how: str) -> None:
    class Caller(Counter):
        def __init__(self, callee: ActorRef) -> None:
            super().__init__()
            self.callee = callee

        @handles(Relay)
        async def relay(self, message: Relay) -> int:
            if how == "crash":
                self.context.start_task(self.fail)
            await self.callee.call(Nap(5.0), math.inf)
            return 1

        async def fail(self) -> None:
            await trio.sleep(1)
            raise Boom("beside the call")

    @seeded()
    async def run() -> None:
        log = Log()
        async with system(log) as s:
            callee = await s.start_child(child("callee", log))
            shutdown = 0.0 if how == "kill" else 2.0
            ref = await s.start_child(ChildSpec("a", lambda: Caller(callee), shutdown=shutdown, backoff=NOW))
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    with pytest.raises(ActorDown):
                        await ref.call(Relay(), math.inf)

                nursery.start_soon(ask)
                await settle()
                assert s.tree().find("t/a").waiting_for == "t/callee"
                if how != "crash":
                    nursery.start_soon(s.restart_child, "a")
            assert s.tree().find("t/a").waiting_for is None  # no edge of the dead is left
            before = trio.current_time()
            assert await callee.call(Get()) == 0  # behind the nap that nobody wants any more
            assert trio.current_time() - before > 2
            assert len(log.seen(LateReply)) == 1
            assert callee.place.number == 1

    run()


# ---- what hangs


@seeded()
async def test_an_init_that_hangs_at_a_restart_holds_up_its_own_place_alone() -> None:
    log = Log()

    async def hang(counter: Counter) -> None:
        if counter.context.incarnation > 1:
            await trio.sleep_forever()

    async with system(log) as s:
        spec = SupervisorSpec(
            "g", strategy="one_for_all", backoff=NOW, children=[child("a", log, on_init=hang), child("b", log)]
        )
        g = await s.start_child(spec)
        other = await s.start_child(child("other", log))
        a, b = g.child("a"), g.child("b")
        assert isinstance(a, ActorRef)
        assert isinstance(b, ActorRef)
        await a.cast(Crash())
        await trio.sleep(100)
        assert (a.state, b.state) == ("starting", "down")
        for ref in (a, b):
            with pytest.raises(CallTimeout, match=r"the callee has been (starting \(in init\)|down) for 1"):
                await ref.call(Get(), timeout=1.0)
        assert await other.call(Get()) == 0
        before = trio.current_time()
        await s.stop_child("g")
        assert trio.current_time() == before  # what hangs in init is cancelled at once
    assert [line[:2] for line in log.of("terminate")] == [("a", 1), ("b", 1), ("other", 1)]


def test_a_handler_in_a_thread_is_reported_stuck_and_waited_for() -> None:
    """trio can't stop a thread: neither can we, but everybody else is stopped, and it is said who it is."""
    log = Log()
    release = threading.Event()

    class Threaded(Actor):
        @handles(Add)
        async def add(self, message: Add) -> None:
            await trio.to_thread.run_sync(release.wait)
            log.add("released")

    async def run() -> None:
        async with system(log) as s:
            await s.start_child(child("below", log))
            ref = await s.start_child(ChildSpec("a", Threaded, shutdown=0.02))
            await ref.cast(Add())
            await trio.sleep(0.01)

            def let_go(event: object) -> None:
                if isinstance(event, ActorEnded) and event.path == "t/below":
                    release.set()

            s.events.subscribe(let_go)

    trio.run(run)
    (stuck,) = log.seen(ActorStuck)
    assert stuck.path == "t/a"
    assert any(line.endswith("Threaded.add") for line in stuck.stack)
    assert [line[0] for line in log.lines] == ["init", "terminate", "released"]


# ---- time


@seeded()
async def test_a_clock_that_jumps_fires_what_is_due_once_and_in_order() -> None:
    """A suspended laptop: an hour passes within one step."""
    log = Log()
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)

    def set_timers(counter: Counter) -> None:
        for n in (3, 1, 2):
            counter.context.send_after(n * 60.0, Add(n))

    async with system(log) as s:
        ref = await s.start_child(child("a", log, on_init=set_timers))
        flaky = await s.start_child(child("flaky", log, backoff=Backoff(initial=1800.0, maximum=1800.0, jitter=0)))
        await flaky.cast(Crash())
        async with trio.open_nursery() as nursery:
            ended: list[str] = []

            async def ask(name: str, timeout: float) -> None:
                with pytest.raises(CallTimeout):
                    await flaky.call(Get(), timeout)
                ended.append(name)

            nursery.start_soon(ask, "soon", 10.0)
            nursery.start_soon(ask, "later", 600.0)
            await settle()
            clock.jump(3600.0)
        assert sorted(ended) == ["later", "soon"]
        await settle()
        assert [line[1] for line in log.of("add")] == [1, 2, 3]
        assert await flaky.call(Get()) == 0  # its restart was due, too
        assert flaky.place.number == 2
        assert s.statistics().timers == 0
        assert await ref.call(Get()) == 6


@seeded()
async def test_a_dependency_that_is_down_for_minutes_is_waited_for() -> None:
    """Backoff and an intensity of its own: no death within seconds, no thousand attempts, nobody else is touched."""
    log = Log()
    up_at = trio.current_time() + 400

    def connect(counter: Counter) -> None:
        if counter.context.incarnation > 1 and trio.current_time() < up_at:
            raise ConnectionError("the database is down")

    async with system(log, max_restarts=0) as s:
        other = await s.start_child(child("other", log))
        backoff = Backoff(initial=0.5, factor=2.0, maximum=30.0)
        spec = child("db", log, on_init=connect, backoff=backoff, max_restarts=30, max_seconds=600.0)
        ref = await s.start_child(spec)
        await ref.cast(Crash())
        await ref.cast(Add(7))
        assert await ref.call(Get(), timeout=1000.0) == 7  # what was asked meanwhile is answered
        attempts = len(log.seen(ActorRestarting))
        assert 10 <= attempts <= 30
        assert 400 <= trio.current_time() - (up_at - 400) <= 400 + 30
        assert other.place.number == 1


# ---- many at once


@pytest.mark.parametrize("enough", [True, False])
def test_a_crash_storm_of_a_thousand_children(enough: bool) -> None:
    @seeded(seeds=2)
    async def run() -> None:
        log = Log()
        async with system(log) as s:
            other = await s.start_child(child("other", log))
            limit = 1000 if enough else 999
            d = await s.start_child(
                DynamicSupervisorSpec("d", max_restarts=limit, max_seconds=60.0, on_intensity="degrade")
            )
            refs = [await d.start_child(child(f"c{i}", log)) for i in range(1000)]
            for ref in refs:
                ref.cast_nowait(Crash())
            await trio.sleep(10)
            assert len(log.seen(ActorCrashed)) == 1000
            if enough:
                assert {ref.place.number for ref in refs} == {2}
                assert {ref.state for ref in refs} == {"running"}
                assert await refs[500].call(Get()) == 0
            else:
                assert d.state == "degraded"
                with pytest.raises(ActorStopped):
                    await refs[500].call(Get())
                assert s.statistics().actors == 1
            assert await other.call(Get()) == 0
            assert s.statistics().restarts == (1000 if enough else 999)
        statistics = s.statistics()
        assert (statistics.actors, statistics.timers, statistics.names) == (0, 0, 0)
        assert sorted(log.of("init")) == sorted(line[:2] for line in log.of("terminate"))
        assert len(set(log.of("init"))) == len(log.of("init"))

    run()


# ---- memory pressure


def test_a_collection_at_every_step_changes_nothing() -> None:
    """The collector runs between any two steps, and whatever dies then calls back into the actors."""
    alive: list[weakref.ref[object]] = []

    class State:
        """Collected in the middle of a dispatch: its finalizer sends a message."""

        def __init__(self, ref: ActorRef) -> None:
            self.cycle = self
            weakref.finalize(self, tell, ref)

    def tell(ref: ActorRef) -> None:
        if ref.state == "running":
            ref.cast_nowait(Add())

    class Cyclic(Counter):
        @handles(CrashCall)
        def crash_call(self, message: CrashCall) -> int:
            state = State(self.context.ref)
            alive.append(weakref.ref(state))
            raise Boom

    class Collect(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            gc.collect()

        after_task_step = before_task_step

    def count(collecting: bool) -> tuple[int, list[object]]:
        log = Log()
        alive.clear()
        lives = 0

        async def run() -> None:
            nonlocal lives
            if collecting:
                trio.lowlevel.add_instrument(Collect())
            async with system(log) as s:
                ref = await s.start_child(ChildSpec("a", lambda: Cyclic(log), backoff=NOW))
                for _ in range(20):
                    with pytest.raises(ActorDown):
                        await ref.call(CrashCall())
                    assert await ref.call(Get()) >= 0
                if collecting:
                    assert sum(known() is not None for known in alive) <= 1
                lives = ref.place.number
            assert s.statistics().undelivered == 0

        gc.freeze()  # a collection of what is older would take its time
        gc.disable()
        try:
            run_seeded(run, seed=3)
        finally:
            gc.enable()
            gc.unfreeze()
        return lives, [(type(event), event.path) for event in log.events]

    assert count(collecting=True) == count(collecting=False)
