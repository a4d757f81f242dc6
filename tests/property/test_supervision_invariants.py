"""Invariants of lives, from start to end (supervision/INVARIANTS.md), with random programs under random schedules."""

from __future__ import annotations

import contextlib
import math
from collections import Counter as Tally
from typing import Any

import pytest
import trio
from hypothesis import assume, example, given
from hypothesis import strategies as st

from supervision import (
    ActorDown,
    ActorEnded,
    ActorRestarted,
    ActorRestarting,
    Backoff,
    Cast,
    ChildSpec,
    SupervisorSpec,
    handles,
)
from supervision.testing import run_seeded
from tests.property.programs import Mortal, common, seeds
from tests.supervision.world import (
    NOW,
    Add,
    Boom,
    Counter,
    Crash,
    Get,
    Log,
    Nap,
    child,
    system,
)


@common
@given(
    st.builds(
        Backoff,
        initial=st.floats(0, 2),
        factor=st.floats(1, 4),
        maximum=st.floats(2, 20),
        jitter=st.floats(0, 1),
        reset_after=st.floats(0.5, 20),
    ),
    st.lists(st.floats(0, 25), min_size=1, max_size=8),
    st.one_of(st.none(), st.floats(0, 60)),
    seeds,
)
def test_restarts_are_delayed_as_the_backoff_says_and_never_come_after_a_stop(
    backoff: Backoff, ups: list[float], stop: float | None, seed: int
) -> None:
    """Each delay within its bounds, by the number of restarts in a row; a stable period starts the row anew."""
    assume(all(abs(up - backoff.reset_after) > 1e-6 for up in ups))

    async def run() -> None:
        log = Log()
        times: list[tuple[str, float, float]] = []

        def note(event: object) -> None:
            if isinstance(event, (ActorRestarting, ActorRestarted, ActorEnded)) and event.path == "t/a":
                delay = event.delay if isinstance(event, ActorRestarting) else 0.0
                times.append((type(event).__name__, trio.current_time(), delay))

        async with system(log) as s:
            s.events.subscribe(note)
            ref = await s.start_child(child("a", log, backoff=backoff))
            stopped = False

            async def disturb() -> None:
                attempt = 0
                for up in ups:
                    await trio.sleep(up)
                    attempt = 1 if up >= backoff.reset_after else attempt + 1
                    times.clear()
                    ref.cast_nowait(Crash())
                    await ref.call(Get(), math.inf)
                    (_, _, _), (_, at, delay), (_, again, _) = times
                    base = min(backoff.maximum, backoff.initial * backoff.factor ** (attempt - 1))
                    assert base * (1 - backoff.jitter) - 1e-9 <= delay <= base + 1e-9
                    assert again - at == pytest.approx(delay, abs=1e-6)

            if stop is None:
                await disturb()
            else:
                with trio.move_on_after(stop), contextlib.suppress(ActorDown):
                    await disturb()
                await s.stop_child("a")
                stopped = True
                times.clear()
            await trio.sleep(100)
            if stopped:
                assert times == []
                assert ref.state == "stopped"

    run_seeded(run, seed=seed)


@common
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["fails", "fails late", "slow", "fine", "interferes"]),
            st.one_of(st.just(math.inf), st.floats(0, 3)),
            st.sampled_from(["actor", "supervisor", "last of a supervisor"]),
        ),
        min_size=1,
        max_size=5,
    ),
    seeds,
)
def test_a_start_that_does_not_succeed_leaves_nothing(starts: list[tuple[str, float, str]], seed: int) -> None:
    """All at once; each may fail by itself or be cut off: no child, no name, no member, no timer, no task is left."""

    async def run() -> None:
        log = Log()
        succeeded: set[str] = set()
        async with system(log) as s, trio.open_nursery() as nursery:

            async def start(n: int, how: str, patience: float, where: str) -> None:
                async def on_init(counter: Counter) -> None:
                    context = counter.context
                    context.register(f"name {n}")
                    context.join("all")
                    context.send_after(50, Add())
                    context.start_task(trio.sleep_forever)
                    if how == "fails":
                        raise Boom
                    if how != "fine":
                        await trio.sleep(1.0)
                    if how == "fails late":
                        raise Boom
                    if how == "interferes":
                        with trio.CancelScope(shield=True):
                            await trio.sleep(1.0)

                spec: Any = child(f"c{n}", log, on_init=on_init)
                if where != "actor":
                    before = [child("first", log)] if where == "last of a supervisor" else []
                    spec = SupervisorSpec(f"c{n}", children=[*before, spec])
                with trio.move_on_after(patience):
                    try:
                        await s.start_child(spec)
                    except Boom:
                        assert how.startswith("fails")
                    else:
                        succeeded.add(f"c{n}")

            for n, arguments in enumerate(starts):
                nursery.start_soon(start, n, *arguments)
            await trio.sleep(10)
            assert set(s.children()) == succeeded
            wheres = {f"c{n}": where for n, (_, _, where) in enumerate(starts)}
            count = sum(2 if wheres[name] == "last of a supervisor" else 1 for name in succeeded)
            statistics = s.statistics()
            assert (statistics.actors, statistics.timers, statistics.names) == (count, len(succeeded), len(succeeded))
            assert len(s.registry.members("all")) == len(succeeded)
        assert Tally(log.of("init")).keys() <= Tally(line[:2] for line in log.of("terminate")).keys()

    run_seeded(run, seed=seed)


class Tick(Cast, frozen=True):
    incarnation: int
    due: float


class SetTimer(Cast, frozen=True):
    delay: float


class Clockwork(Mortal):
    def __init__(self, log: Log) -> None:
        super().__init__(log)

    @handles(SetTimer)
    def set_timer(self, message: SetTimer) -> None:
        tick = Tick(self.context.incarnation, trio.current_time() + message.delay)
        self.log.add("set", tick)
        self.context.send_after(message.delay, tick)

    @handles(Tick)
    def tick(self, message: Tick) -> None:
        self.log.add("tick", self.context.incarnation, message, trio.current_time())


@common
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("timer"), st.floats(0, 5)),
            st.tuples(st.just("pause"), st.floats(0, 3)),
            st.tuples(st.just("nap"), st.floats(0.1, 3)),
            st.tuples(st.sampled_from(["crash", "restart"]), st.just(0.0)),
        ),
        max_size=20,
    ),
    seeds,
)
@example([("timer", 0.5), ("nap", 1.0), ("pause", 0.1), ("crash", 0.0)], 0)
def test_a_timer_reaches_the_incarnation_that_set_it_or_nobody(ops: list[tuple[str, float]], seed: int) -> None:
    """Never too early, once at most; those of the last incarnation, which goes on, all arrive."""

    async def run() -> None:
        log = Log()
        async with system() as s, trio.open_nursery() as nursery:
            ref = await s.start_child(ChildSpec("a", lambda: Clockwork(log), backoff=NOW))

            async def nap(seconds: float) -> None:
                with contextlib.suppress(ActorDown):
                    await ref.call(Nap(seconds), math.inf)

            for op, number in [*ops, ("timer", 1.0)]:
                if op == "timer":
                    await ref.cast(SetTimer(number))
                elif op == "pause":
                    await trio.sleep(number)
                elif op == "nap":
                    nursery.start_soon(nap, number)
                elif op == "crash":
                    await ref.cast(Crash())
                else:
                    await s.restart_child("a")
            await trio.sleep(200)
            last = ref.place.number
            assert s.statistics().timers == 0
        ticks = [tick for _, tick, _ in log.of("tick")]
        assert all(incarnation == tick.incarnation for incarnation, tick, _ in log.of("tick"))
        assert all(at >= tick.due - 1e-6 for _, tick, at in log.of("tick"))
        put = [tick for (tick,) in log.of("set")]
        assert not Tally(ticks) - Tally(put)
        final = [tick for tick in put if tick.incarnation == last]
        assert final
        assert Tally(tick for tick in ticks if tick.incarnation == last) == Tally(final)

    run_seeded(run, seed=seed)
