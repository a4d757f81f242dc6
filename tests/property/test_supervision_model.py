"""Random operation lists against a supervision tree, under random schedules, compared with simple models."""

from __future__ import annotations

import contextlib
import math
from collections import Counter as Tally
from typing import Any

import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from supervision import (
    ActorDown,
    ActorEnded,
    ActorRef,
    ActorRestarted,
    ActorStarted,
    Backoff,
    CallTimeout,
    DynamicSupervisorSpec,
    Mailbox,
    MailboxFull,
    SupervisionError,
    SupervisorSpec,
    Undelivered,
)
from supervision.testing import run_seeded
from tests.supervision.world import NOW, Add, Crash, CrashCall, Defer, Get, Log, Nap, Quit, child, settle, system

seeds = st.integers(0, 2**32 - 1)
common = settings(deadline=None)  # examples: by profile
naps = st.sampled_from([None, 0.0004, 0.7])
"""hibernate_after: never, before anyone looks, between two steps of the virtual clock."""


def check_lives(log: Log) -> None:
    """Every successful init has exactly one terminate; incarnations of one place never overlap."""
    inits = Tally(log.of("init"))
    terminates = Tally(line[:2] for line in log.of("terminate"))
    assert inits == terminates
    assert set(inits.values()) <= {1}
    running: set[str] = set()
    for event in log.events:
        if isinstance(event, (ActorStarted, ActorRestarted)):
            assert event.path not in running
            running.add(event.path)
        elif isinstance(event, ActorEnded):
            running.discard(event.path)
    assert running == set()


@common
@given(
    st.sampled_from(["permanent", "transient", "temporary"]),
    st.lists(st.sampled_from(["normal", "crash", "stop", "kill", "crash in a call"]), min_size=1, max_size=6),
    seeds,
)
def test_the_table_of_restart_types(kind: str, ends: list[str], seed: int) -> None:
    async def run() -> None:
        log = Log()
        lives = 1
        alive = True
        async with system(log) as s:
            ref = await s.start_child(child("a", log, restart=kind, shutdown=1.0))

            async def nap() -> None:
                with contextlib.suppress(ActorDown):
                    await ref.call(Nap(1000.0), math.inf)

            for end in ends:
                if not alive:
                    break
                if end == "stop":
                    await s.stop_child("a")
                elif end == "kill":
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(nap)
                        await settle()
                        await s.stop_child("a")
                    assert log.of("terminate")[-1][2] == "killed"
                elif end == "crash in a call":
                    with contextlib.suppress(SupervisionError):
                        await ref.call(CrashCall(), math.inf)
                else:
                    await ref.cast(Quit() if end == "normal" else Crash())
                await settle()
                crashed = end.startswith("crash")
                alive = end not in {"stop", "kill"} and (kind == "permanent" or (kind == "transient" and crashed))
                lives += alive
                assert (ref.state == "running") is alive
                assert len(log.of("init")) == lives
        check_lives(log)

    run_seeded(run, seed=seed)


@common
@given(
    st.integers(0, 4),
    st.floats(0.5, 20),
    st.lists(st.one_of(st.just(0.0), st.floats(0.01, 15)), min_size=1, max_size=8),
    seeds,
)
def test_intensity_against_a_window_model(limit: int, window: float, pauses: list[float], seed: int) -> None:
    """More than N restarts in the window, both ends included, end it; N never do."""

    async def run() -> None:
        log = Log()
        times: list[float] = []
        over = False
        async with system(log) as s:
            d = await s.start_child(
                DynamicSupervisorSpec("d", max_restarts=limit, max_seconds=window, on_intensity="degrade")
            )
            ref = await d.start_child(child("a", log))
            for pause in pauses:
                await trio.sleep(pause)
                if over:
                    break
                # the model
                now = trio.current_time()
                times = [time for time in times if now - time <= window] + [now]
                over = len(times) > limit
                ref.cast_nowait(Crash())
                while ref.state == "running" and ref.place.inbox.count:
                    await trio.lowlevel.checkpoint()
                for _ in range(20):
                    await trio.lowlevel.checkpoint()
                assert (d.state == "degraded") is over
        check_lives(log)

    run_seeded(run, seed=seed)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("cast"), st.integers(0, 2)),
        st.tuples(st.just("crash"), st.integers(0, 2)),
        st.tuples(st.just("pause"), st.sampled_from([0.0, 0.001, 1.0])),
        st.tuples(st.just("restart"), st.integers(0, 2)),
        st.tuples(st.just("nap"), st.integers(0, 2)),
    ),
    max_size=25,
)


@common
@given(
    st.sampled_from(["one_for_one", "rest_for_one", "one_for_all"]),
    st.sampled_from(["wait", "reject", "drop_oldest"]),
    st.integers(0, 4),
    st.lists(operations, min_size=1, max_size=3),
    naps,
    seeds,
)
def test_casts_are_conserved_in_order_and_handled_once(
    strategy: Any, policy: Any, capacity: int, senders: list[list[tuple[str, Any]]], nap: float | None, seed: int
) -> None:
    async def run() -> None:
        log = Log()
        accepted: dict[str, list[int]] = {name: [] for name in "abc"}
        async with system(log) as s:
            least = 1 if policy == "drop_oldest" else 0
            mailbox = Mailbox(capacity=max(least, capacity), when_full=policy)
            # At a rendezvous, what was handed to an idle actor is on its way to it for this step.
            bound = capacity if policy == "wait" else max(1, capacity)
            g = await s.start_child(
                SupervisorSpec(
                    "g",
                    strategy=strategy,
                    max_restarts=10_000,
                    children=[child(name, log, mailbox=mailbox, hibernate_after=nap) for name in "abc"],
                )
            )
            refs = [ref for ref in g.children().values() if isinstance(ref, ActorRef)]

            async def send(sender: int, steps: list[tuple[str, Any]]) -> None:
                for i, (kind, argument) in enumerate(steps):
                    try:
                        if kind == "cast":
                            number = sender * 1000 + i
                            await refs[argument].cast(Add(number))
                            accepted[refs[argument].name].append(number)
                        elif kind == "crash":
                            await refs[argument].cast(Crash())
                        elif kind == "pause":
                            await trio.sleep(argument)
                        elif kind == "restart":
                            await g.restart_child(refs[argument].name)
                        else:
                            await refs[argument].call(Nap(0.5), timeout=2.0)
                    except (SupervisionError, CallTimeout):
                        pass
                    assert all(ref.place.inbox.count <= bound for ref in refs)

            async with trio.open_nursery() as nursery:
                for sender, steps in enumerate(senders):
                    nursery.start_soon(send, sender, steps)
            await trio.sleep(100)
            assert [ref.state for ref in refs] == ["running"] * 3
            assert [ref.place.inbox.count for ref in refs] == [0] * 3
        check_lives(log)
        for name in "abc":
            handled = [line[1] for line in log.of("add") if line[0] == name]
            lost = [
                event.message.n
                for event in log.seen(Undelivered)
                if event.path == f"t/g/{name}" and isinstance(event.message, Add)
            ]
            assert sorted(handled + lost) == sorted(accepted[name])  # conservation, and at most once
            for sender in range(len(senders)):
                mine = [number for number in handled if number // 1000 == sender]
                assert mine == sorted(mine)  # first in, first out, per sender, across restarts

    run_seeded(run, seed=seed)


calls = st.lists(
    st.tuples(
        st.sampled_from([Get(), Nap(1.0), Nap(3.0), Defer(2.0), Defer(30.0), CrashCall()]),
        st.sampled_from([0.0, 0.5, 2.0, math.inf]),
        st.one_of(st.none(), st.floats(0, 4)),
    ),
    min_size=1,
    max_size=12,
)


@common
@given(calls, st.lists(st.floats(0, 6), max_size=3), st.one_of(st.none(), st.floats(0, 8)), naps, seeds)
def test_every_call_ends_exactly_once_and_in_time(
    asked: list[Any], crashes: list[float], stop: float | None, nap: float | None, seed: int
) -> None:
    async def run() -> None:
        ends: list[int] = []
        async with system() as s:
            ref = await s.start_child(child("a", mailbox=Mailbox(capacity=2), hibernate_after=nap))

            async def ask(index: int, message: Any, timeout: float, patience: float | None) -> None:
                before = trio.current_time()
                scope = trio.CancelScope(deadline=before + (math.inf if patience is None else patience))
                with scope, contextlib.suppress(SupervisionError):
                    await ref.call(message, timeout)
                if scope.cancelled_caught:
                    assert patience is not None
                assert trio.current_time() - before <= min(timeout, math.inf if patience is None else patience) + 1e-6
                ends.append(index)

            async def disturb(at: float, crash: bool) -> None:
                await trio.sleep(at)
                try:
                    if crash:
                        ref.cast_nowait(Crash())
                    else:
                        await s.stop_child("a")
                except (SupervisionError, MailboxFull):
                    pass

            async with trio.open_nursery() as nursery:
                for index, (message, timeout, patience) in enumerate(asked):
                    nursery.start_soon(ask, index, message, timeout, patience)
                for at in crashes:
                    nursery.start_soon(disturb, at, True)
                if stop is not None:
                    nursery.start_soon(disturb, stop, False)
            assert sorted(ends) == list(range(len(asked)))
            if nap is None:
                assert s.statistics().timers == 0
            assert ref.place.inbox.waiting == 0
        assert s.statistics().timers == 0

    run_seeded(run, seed=seed)


@common
@given(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=6),
    st.lists(st.integers(0, 5), min_size=6, max_size=6),
    st.sampled_from(["one_for_one", "rest_for_one", "one_for_all"]),
    seeds,
)
def test_group_strategies_restart_exactly_their_set(
    crashed: list[str], pauses: list[int], strategy: Any, seed: int
) -> None:
    """One at a time, and all at once: the model is exact. A little apart: each has one living incarnation, in
    start order, at the end.
    """

    async def one_by_one() -> None:
        log = Log()
        lives = dict.fromkeys("abcd", 1)
        async with system(log) as s:
            spec = SupervisorSpec(
                "g", strategy=strategy, max_restarts=1000, children=[child(name, log) for name in "abcd"]
            )
            g = await s.start_child(spec)
            for name in crashed:
                log.lines.clear()
                ref = g.child(name)
                assert isinstance(ref, ActorRef)
                await ref.cast(Crash())
                await settle()
                with_it = {"one_for_one": name, "rest_for_one": "abcd"["abcd".index(name) :], "one_for_all": "abcd"}
                struck = list(with_it[strategy])
                for other in struck:
                    lives[other] += 1
                assert [line[0] for line in log.of("init")] == struck
                ended = [line[0] for line in log.of("terminate")]
                assert ended[0] == name
                assert ended[1:] == [other for other in reversed(struck) if other != name]
                assert {child_name: ref.place.number for child_name, ref in g.children().items()} == lives

    async def at_once() -> None:
        log = Log()
        async with system(log) as s:
            spec = SupervisorSpec(
                "g", strategy=strategy, max_restarts=1000, children=[child(name, log) for name in "abcd"]
            )
            g = await s.start_child(spec)
            refs = {name: ref for name, ref in g.children().items() if isinstance(ref, ActorRef)}
            for name in crashed:
                refs[name].cast_nowait(Crash())
            for name in "abcd":
                assert await refs[name].call(Get(), timeout=100) == 0
            await settle()
            assert s.statistics().actors == 4
            last = {name: max(i for i, line in enumerate(log.lines) if line[:2] == ("init", name)) for name in "abcd"}
            struck = set(crashed)
            if strategy != "one_for_one":
                struck = {name for name in "abcd" if strategy == "one_for_all" or name >= min(crashed)}
                assert [last[name] for name in sorted(struck)] == sorted(last[name] for name in struck)
            assert {line[0] for line in log.of("terminate")} == struck
            if len(set(crashed)) == len(crashed):  # one batch for all of them
                assert {name: ref.place.number for name, ref in refs.items()} == {
                    name: 2 if name in struck else 1 for name in "abcd"
                }
        check_lives(log)

    async def a_little_apart() -> None:
        log = Log()
        slow = Backoff(initial=1.0, maximum=1.0, jitter=0.0)
        async with system(log) as s:
            g = await s.start_child(
                SupervisorSpec(
                    "g",
                    strategy=strategy,
                    max_restarts=1000,
                    children=[child(name, log, backoff=slow) for name in "abcd"],
                )
            )
            refs = {name: ref for name, ref in g.children().items() if isinstance(ref, ActorRef)}
            for name, pause in zip(crashed, pauses, strict=False):
                refs[name].cast_nowait(Crash())
                await trio.sleep(pause * 0.3)
            await trio.sleep(100)
            assert s.statistics().actors == 4
            last = {name: max(i for i, line in enumerate(log.lines) if line[:2] == ("init", name)) for name in "abcd"}
            struck = list(last) if strategy == "one_for_all" else [name for name in last if name >= min(crashed)]
            if strategy != "one_for_one":
                assert [last[name] for name in struck] == sorted(last[name] for name in struck)
        check_lives(log)

    run_seeded(one_by_one, seed=seed)
    run_seeded(at_once, seed=seed)
    run_seeded(a_little_apart, seed=seed)


@common
@example(ops=[("stop", "a"), ("restart", "a")], wait=0, cancel=False, nap=None, seed=0)
@given(
    st.lists(
        st.tuples(st.sampled_from(["crash", "stop", "restart", "start", "quit"]), st.sampled_from("abc")), max_size=8
    ),
    st.integers(0, 30),
    st.booleans(),
    naps,
    seeds,
)
def test_restart_stop_start_and_shutdown_race(
    ops: list[tuple[str, str]], wait: int, cancel: bool, nap: float | None, seed: int
) -> None:
    """In any order: everything ends, children before their supervisor, and nobody is left."""

    async def run() -> None:
        log = Log()
        with trio.CancelScope() as outer:
            async with system(log) as s:
                d = await s.start_child(DynamicSupervisorSpec("d", max_restarts=2, backoff=NOW))
                for name in "abc":
                    await d.start_child(child(name, log, restart="transient", hibernate_after=nap))

                async def act(kind: str, name: str) -> None:
                    try:
                        if kind == "stop":
                            await d.stop_child(name)
                        elif kind == "restart":
                            await d.restart_child(name)
                        elif kind == "start":
                            await d.start_child(child(name, log))
                        else:
                            ref = d.child(name)
                            assert isinstance(ref, ActorRef)
                            await ref.cast(Crash() if kind == "crash" else Quit())
                    except SupervisionError:
                        pass

                nursery_scope = trio.CancelScope()
                with nursery_scope:
                    async with trio.open_nursery() as nursery:
                        for kind, name in ops:
                            nursery.start_soon(act, kind, name)
                        for _ in range(wait):
                            await trio.lowlevel.checkpoint()
                        nursery_scope.cancel()
                if cancel:
                    outer.cancel()
            assert s.statistics().actors == 0
        check_lives_by_events(log)

    run_seeded(run, seed=seed)


def check_lives_by_events(log: Log) -> None:
    """As check_lives(), where names are used by several places."""
    assert sorted(Tally(log.of("init")).items()) == sorted(Tally(line[:2] for line in log.of("terminate")).items())
    running: set[str] = set()
    for event in log.events:
        if isinstance(event, (ActorStarted, ActorRestarted)):
            assert event.path not in running
            running.add(event.path)
        elif isinstance(event, ActorEnded):
            below = [path for path in running if path.startswith(event.path + "/")]
            assert below == [], f"{event.path} ended before {below}"
            running.discard(event.path)
    assert running <= {"t"}


@common
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.booleans(), seeds)
def test_shutdown_runs_in_reverse_start_order(sizes: list[int], cancel: bool, seed: int) -> None:
    async def run() -> None:
        log = Log()
        started: list[str] = []
        with trio.CancelScope() as outer:
            async with system(log) as s:
                for i, size in enumerate(sizes):
                    names = [f"g{i}c{j}" for j in range(size)]
                    started += names
                    await s.start_child(SupervisorSpec(f"g{i}", children=[child(name, log) for name in names]))
                if cancel:
                    outer.cancel()
        assert [line[0] for line in log.of("terminate")] == list(reversed(started))
        assert {line[2] for line in log.of("terminate")} == {"cancelled" if cancel else "shutdown"}

    run_seeded(run, seed=seed)
