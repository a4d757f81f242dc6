"""The end: in order, within bounds, whatever happens around."""

from __future__ import annotations

import gc
import math
import random
import weakref

import pytest
import trio

from supervision import (
    Actor,
    ActorDown,
    ActorRef,
    ActorStuck,
    Backoff,
    ChildSpec,
    DynamicSupervisorSpec,
    PlaceClosed,
    StopReason,
    SupervisorSpec,
    handles,
    open_system,
)
from tests.supervision.world import NOW, Add, Boom, Counter, Crash, Get, Log, Nap, child, seeded, settle, system


class Closing(Actor):
    """Takes its time."""

    def __init__(self, log: Log, seconds: float = 0.0) -> None:
        self.log = log
        self.seconds = seconds

    @handles(Nap)
    async def nap(self, message: Nap) -> str:
        try:
            await trio.sleep(message.seconds)
        except trio.Cancelled:
            self.log.add("cancelled", self.context.name, trio.current_time())
            raise
        return "rested"

    async def terminate(self, reason: StopReason) -> None:
        self.log.add("begin", self.context.name, reason.kind)
        await trio.sleep(self.seconds)
        self.log.add("end", self.context.name, trio.current_time())


@seeded()
async def test_children_stop_in_reverse_start_order_one_at_a_time() -> None:
    log = Log()
    async with system(log) as s:
        await s.start_child(child("first", log))
        await s.start_child(
            SupervisorSpec("g", children=[ChildSpec(name, lambda: Closing(log, 1.0)) for name in "abc"])
        )
        await s.start_child(child("last", log))
        before = trio.current_time()
    assert [line[1] for line in log.lines if line[0] in {"terminate", "begin"}] == ["last", "c", "b", "a", "first"]
    assert [line[1] - before for line in log.of("end")] == pytest.approx([1.0, 2.0, 3.0])


@seeded()
async def test_a_dynamic_supervisor_stops_concurrently() -> None:
    log = Log()
    async with system(log) as s:
        d = await s.start_child(DynamicSupervisorSpec("d"))
        for name in "abc":
            await d.start_child(ChildSpec(name, lambda: Closing(log, 1.0)))
        before = trio.current_time()
    assert [line[1] - before for line in log.of("end")] == pytest.approx([1.0, 1.0, 1.0])


@seeded()
async def test_the_message_in_hand_has_its_grace() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(ChildSpec("a", lambda: Closing(log), shutdown=3.0))
        async with trio.open_nursery() as nursery:

            async def nap(seconds: float, expected: str) -> None:
                try:
                    result = await ref.call(Nap(seconds), math.inf)
                except Exception as error:
                    result = type(error).__name__
                assert result == expected

            nursery.start_soon(nap, 2.0, "rested")
            await settle()
            before = trio.current_time()
            await s.stop_child("a")
            assert trio.current_time() - before == pytest.approx(2.0, abs=0.01)
            await s.restart_child("a")
            nursery.start_soon(nap, 20.0, "ActorDown")
            await settle()
            before = trio.current_time()
            await s.stop_child("a")
            assert trio.current_time() - before == pytest.approx(3.0)
    assert [line[1] for line in log.of("begin")] == ["shutdown", "killed"]


@seeded()
async def test_whoever_asks_again_does_not_prolong_the_grace() -> None:
    log = Log()
    async with system(log) as s:
        inner = await s.start_child(SupervisorSpec("inner", children=[child("a", log, shutdown=3.0)]))
        ref = inner.child("a")
        assert isinstance(ref, ActorRef)
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def nap() -> None:
                with pytest.raises(ActorDown):
                    await ref.call(Nap(20.0), math.inf)
                log.add("down", trio.current_time() - begun)

            nursery.start_soon(nap)
            await settle()
            for _ in range(3):
                nursery.start_soon(inner.stop_child, "a")
                await trio.sleep(1)
            nursery.start_soon(s.stop_child, "inner")
    assert log.of("down") == [(pytest.approx(3.0, abs=0.01),)]
    assert log.seen(ActorStuck) == []


@seeded()
async def test_terminate_is_bounded() -> None:
    log = Log()
    async with system(log) as s:
        await s.start_child(ChildSpec("a", lambda: Closing(log, 1000.0), shutdown=3.0))
        before = trio.current_time()
        await s.stop_child("a")
        assert trio.current_time() - before == pytest.approx(3.0)
    assert log.of("begin") == [("a", "shutdown")]
    assert log.of("end") == []


@seeded()
async def test_one_deadline_cascades() -> None:
    """A supervisor's bound holds for the sum of its children, shields included."""
    log = Log()
    async with system(log) as s:
        children = [ChildSpec(name, lambda: Closing(log, 4.0), shutdown=5.0) for name in "abc"]
        await s.start_child(SupervisorSpec("g", children=children, shutdown=6.0))
        before = trio.current_time()
        await s.stop_child("g")
        assert trio.current_time() - before == pytest.approx(6.0)
    assert [line[0] for line in log.of("begin")] == ["c", "b", "a"]
    assert [line[0] for line in log.of("end")] == ["c"]


@seeded()
async def test_outer_cancellation_ends_in_order_and_terminates_everyone() -> None:
    log = Log()
    after: list[float] = []
    with trio.CancelScope() as outer:
        async with system(log) as s:
            refs = [await s.start_child(ChildSpec(name, lambda: Closing(log, 1.0))) for name in "abc"]
            async with trio.open_nursery() as nursery:
                for ref in refs:
                    nursery.start_soon(ref.call, Nap(1000.0), math.inf)
                await settle()
                after.append(trio.current_time())
                outer.cancel()
    assert outer.cancelled_caught
    # what was in hand got no grace, terminate() ran in full, one after the other
    assert [line[0] for line in log.of("cancelled")] == ["c", "b", "a"]
    assert log.of("begin") == [("c", "cancelled"), ("b", "cancelled"), ("a", "cancelled")]
    assert [line[1] - after[0] for line in log.of("end")] == pytest.approx([1.0, 2.0, 3.0])


@seeded()
async def test_outer_cancellation_never_restarts() -> None:
    log = Log()
    with trio.move_on_after(5) as outer:
        async with system(log) as s:
            ref = await s.start_child(child("a", log))
            with trio.CancelScope(shield=True):
                await trio.sleep(6)
            ref.cast_nowait(Add())
            await trio.sleep(1)
    assert outer.cancelled_caught
    assert log.of("init") == [("a", 1)]
    assert log.of("terminate") == [("a", 1, "cancelled", False)]


@seeded()
async def test_outer_cancellation_during_an_orderly_shutdown_hurries_it() -> None:
    log = Log()
    before = trio.current_time()
    with trio.move_on_after(2) as outer:
        async with system(log) as s:
            ref = await s.start_child(ChildSpec("a", lambda: Closing(log), shutdown=500.0))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_ignore_failure, ref)
                await settle()
                nursery.cancel_scope.cancel()
    assert outer.cancelled_caught
    assert trio.current_time() - before == pytest.approx(2.0)
    assert log.of("begin") == [("a", "cancelled")]


async def _ignore_failure(ref: object) -> None:
    await ref.call(Nap(1000.0), math.inf)  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_and_system_exit_pass(error: type[BaseException]) -> None:
    log = Log()

    class Exits(Counter):
        def crash(self, message: Crash) -> None:  # in place of Counter's handler
            raise error

    async def run() -> None:
        async with open_system("t", random=random.Random(1)) as s:
            await s.start_child(child("first", log))
            d = await s.start_child(DynamicSupervisorSpec("d"))
            ref = await d.start_child(ChildSpec("a", lambda: Exits(log), backoff=NOW))
            await ref.cast(Crash())
            await trio.sleep_forever()

    with pytest.raises(error):
        trio.run(run)
    assert [line[:2] for line in log.of("terminate")] == [("a", 1), ("first", 1)]
    assert log.of("init") == [("first", 1), ("a", 1)]


def test_an_error_of_the_body_comes_out_bare() -> None:
    log = Log()

    async def run() -> None:
        async with system(log) as s:
            await s.start_child(child("a", log))
            raise Boom("in the body")

    with pytest.raises(Boom, match="in the body"):
        trio.run(run)
    assert log.of("terminate") == [("a", 1, "shutdown", False)]


@seeded()
async def test_who_swallows_cancelled_is_reported_stuck() -> None:
    log = Log()
    release = trio.Event()

    class Stubborn(Actor):
        @handles(Nap)
        async def nap(self, message: Nap) -> str:
            with trio.CancelScope(shield=True):
                await release.wait()
            return "woken"

    async with system(log) as s:
        await s.start_child(child("below", log))
        ref = await s.start_child(ChildSpec("a", Stubborn, shutdown=1.0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_swallow, ref)
            await settle()

            async def let_go() -> None:
                await trio.sleep(50)
                assert log.of("terminate") == [("below", 1, "shutdown", False)]
                release.set()

            trio.lowlevel.spawn_system_task(let_go)
            nursery.cancel_scope.cancel()
    (stuck,) = log.seen(ActorStuck)
    assert stuck.path == "t/a"
    assert any("in test_who_swallows" in line or "nap" in line for line in stuck.stack)


@seeded(seeds=1)
async def test_who_is_cut_off_at_its_last_deadline_is_not_reported_stuck() -> None:
    log = Log()
    async with system(log) as s:
        for number in range(50):  # sums of seconds differ by their last bit
            ref = await s.start_child(ChildSpec(f"a{number}", lambda: Closing(log, math.inf), shutdown=0.01))
            async with trio.open_nursery() as nursery:

                async def nap(ref: ActorRef) -> None:
                    with pytest.raises(ActorDown):
                        await ref.call(Nap(20.0), math.inf)

                nursery.start_soon(nap, ref)
                await trio.sleep(0.007)
                await s.stop_child(ref.name)
    assert len(log.of("begin")) == 50
    assert log.of("end") == []
    assert log.seen(ActorStuck) == []


@seeded()
async def test_who_only_unwinds_is_not_reported_stuck() -> None:
    log = Log()

    class Unwinding(Actor):
        @handles(Nap)
        async def nap(self, message: Nap) -> None:
            try:
                await trio.sleep_forever()
            finally:
                await self.leave(8)

        async def leave(self, rooms: int) -> None:
            try:
                await trio.lowlevel.checkpoint()
            finally:
                if rooms:
                    await self.leave(rooms - 1)

    async with system(log) as s:
        ref = await s.start_child(ChildSpec("a", Unwinding, shutdown=0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cut_off, ref)
            await settle()
            await s.restart_child("a")
        assert ref.statistics().incarnation == 2
    assert log.seen(ActorStuck) == []


async def _cut_off(ref: ActorRef) -> None:
    with pytest.raises(ActorDown):
        await ref.call(Nap(1.0), math.inf)


async def _swallow(ref: object) -> None:
    await ref.call(Nap(1.0), math.inf)  # type: ignore[attr-defined]


def test_nothing_is_left() -> None:
    kept: dict[str, weakref.ref[object]] = {}

    class State:
        pass

    class Holder(Counter):
        async def init(self) -> None:
            await super().init()
            self.state = State()
            kept[f"state {self.context.name} {self.context.incarnation}"] = weakref.ref(self.state)
            self.context.start_task(trio.sleep_forever)
            self.context.send_after(100, Add())
            self.context.register(f"{self.context.name} by name")

    @seeded(seeds=1)
    async def run() -> None:
        async with system() as s:
            for name in "ab":
                ref = await s.start_child(ChildSpec(name, Holder, backoff=NOW))
                await ref.cast(Crash())
                await ref.call(Get())
            gc.collect()
            # the crashed incarnations' state is free although their crashes are remembered
            assert s.tree().find("t/a").last_crash is not None
            assert kept["state a 1"]() is None
            assert kept["state a 2"]() is not None
            assert s.statistics().names == 2
        statistics = s.statistics()
        assert (statistics.actors, statistics.timers, statistics.names) == (0, 0, 0)
        gc.collect()
        assert kept["state a 2"]() is None

    run()


@seeded()
async def test_no_restart_begins_once_the_stop_has_begun() -> None:
    """Neither of a child that waits for its restart, nor of one that crashes while its siblings are stopped."""
    log = Log()
    async with system(log) as s:
        waiting = await s.start_child(child("waiting", log, backoff=Backoff(initial=1.0, jitter=0)))
        crashing = await s.start_child(child("crashing", log))
        await s.start_child(ChildSpec("slow", lambda: Closing(log, 4.0)))
        await waiting.cast(Crash())
        await settle()
        trio.lowlevel.spawn_system_task(_crash_later, crashing)
    assert [line for line in log.of("init") if line[1] > 1] == []
    assert ("terminate", "crashing", 1, "crash", False) in log.lines
    assert {event.path for event in log.seen(PlaceClosed)} == {"t", "t/waiting", "t/crashing", "t/slow"}


async def _crash_later(ref: ActorRef) -> None:
    await trio.sleep(2)
    ref.cast_nowait(Crash())
