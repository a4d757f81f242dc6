"""Invariants of lives, from start to end (supervision/INVARIANTS.md), with random programs under random schedules."""

from __future__ import annotations

import contextlib
import gc
import math
import random
import weakref
from collections import Counter as Tally
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from supervision import (
    Actor,
    ActorCrashed,
    ActorDown,
    ActorEnded,
    ActorRef,
    ActorRestarted,
    ActorRestarting,
    ActorSystem,
    AutoShutdown,
    Backoff,
    Cast,
    ChildSpec,
    Down,
    DynamicSupervisorSpec,
    NotRunning,
    StopReason,
    SupervisionError,
    SupervisorSpec,
    handles,
    open_system,
)
from supervision.testing import InjectedFault, run_seeded
from tests.supervision.world import (
    ENOUGH,
    NOW,
    Add,
    Boom,
    Counter,
    Crash,
    Defer,
    Get,
    Log,
    Nap,
    Quit,
    child,
    settle,
    swept,
    system,
)

seeds = st.integers(0, 2**32 - 1)
common = settings(deadline=None)  # examples: by profile


class Note(Cast, frozen=True):
    """Log it; take `nap` seconds over it; then crash, if so."""

    n: int
    nap: float = 0.0
    crash: bool = False


class NapCast(Cast, frozen=True):
    """Never done."""


class Mortal(Counter):
    @handles(NapCast)
    async def nap_for_ever(self, message: NapCast) -> None:
        await trio.sleep_forever()


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


class Stubborn(Actor):
    """Takes its time over a message and over its end, which it refuses to cut short as far as trio lets it."""

    def __init__(self, log: Log, terminate: float) -> None:
        self.log = log
        self.slow = terminate

    @handles(Note)
    async def note(self, message: Note) -> None:
        await trio.sleep(message.nap)

    async def terminate(self, reason: StopReason) -> None:
        self.log.add("terminate", self.context.path, trio.current_time())
        await trio.sleep(self.slow)


times = st.one_of(st.just(0.0), st.floats(0.1, 5))
stubborn = st.tuples(times, times, times)  # shutdown, at its message, in terminate()


@common
@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(stubborn, max_size=3), st.one_of(st.just(math.inf), times)), max_size=3
    ),
    st.one_of(st.just(math.inf), times),
    st.booleans(),
    seeds,
)
def test_a_shutdown_goes_backwards_and_keeps_all_its_bounds(
    tree: list[tuple[bool, list[tuple[float, float, float]], float]], bound: float, cancel: bool, seed: int
) -> None:
    """Of each actor, each supervisor for all below it, the system; an outer cancellation waits for no message."""

    async def run() -> None:
        log = Log()
        ended: dict[str, float] = {}

        def note(event: object) -> None:
            if isinstance(event, ActorEnded):
                ended[event.path] = trio.current_time()

        with trio.CancelScope() as outer:
            async with open_system("t", random=random.Random(7), shutdown=bound) as s:
                s.events.subscribe(note)
                for g, (dynamic, children, shutdown) in enumerate(tree):
                    spec = (DynamicSupervisorSpec if dynamic else SupervisorSpec)(f"g{g}", shutdown=shutdown)
                    supervisor = await s.start_child(spec)
                    for c, (grace, nap, slow) in enumerate(children):
                        ref = await supervisor.start_child(
                            ChildSpec(f"c{c}", partial(Stubborn, log, slow), shutdown=grace)
                        )
                        ref.cast_nowait(Note(0, nap=nap))
                await settle()
                begun = trio.current_time()
                if cancel:
                    outer.cancel()
        assert trio.current_time() - begun <= bound + 1e-6
        assert len(log.of("terminate")) == sum(len(children) for _, children, _ in tree)
        at = begun
        for g, (dynamic, children, shutdown) in reversed(list(enumerate(tree))):
            hard = min(at + shutdown, begun + bound)
            one = at
            finished: list[float] = []
            for c, (grace, nap, slow) in reversed(list(enumerate(children))):
                # the model: the message has its grace, terminate() as long again, and nobody more than is left
                start = at if dynamic else one
                at_message = 0.0 if cancel else max(0.0, min(nap - (start - begun) - 0.001, grace, hard - start))
                over = start + max(0.0, at_message)
                one = over + max(0.0, min(slow, grace, hard - over))
                assert ended[f"t/g{g}/c{c}"] == pytest.approx(one, abs=0.01)
                finished.append(one)
            at = max([at, *finished])
            assert ended[f"t/g{g}"] == pytest.approx(at, abs=0.01)

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


class RaiseGroup(Cast, frozen=True):
    """Raise what the function makes of a Cancelled."""

    make: Any


class Raiser(Counter):
    @handles(RaiseGroup)
    async def raise_group(self, message: RaiseGroup) -> None:
        # One's own scope, cancelled: its Cancelled, kept beyond it, stands for one that was swept up with errors.
        with trio.CancelScope() as own:
            own.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as cancelled:
                kept = cancelled
        raise message.make(kept)

    @handles(NapCast)
    async def until_cancelled(self, message: NapCast) -> None:
        await trio.sleep_forever()


class Mixed(Cast, frozen=True):
    """Wait to be cancelled, then raise what the function makes of it."""

    make: Any


class Mixer(Raiser):
    @handles(Mixed)
    async def mixed(self, message: Mixed) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            raise message.make(cancelled) from None


leaves = st.sampled_from(["boom", "other", "cancelled"])
shapes = st.recursive(leaves, lambda below: st.lists(below, min_size=1, max_size=3), max_leaves=6)


def build(shape: Any, cancelled: trio.Cancelled) -> BaseException:
    if isinstance(shape, list):
        return BaseExceptionGroup("made", [build(one, cancelled) for one in shape])
    return {"boom": Boom("made"), "other": LookupError("made"), "cancelled": cancelled}[shape]


def leaves_of(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for member in error.exceptions for leaf in leaves_of(member)]
    return [error]


def flat(shape: Any) -> set[str]:
    return set().union(*map(flat, shape)) if isinstance(shape, list) else {shape}


@common
@given(shapes, st.sampled_from(["by itself", "stopped", "outer"]), seeds)
def test_a_group_with_an_error_is_a_crash_and_a_cancellation_is_none(shape: Any, how: str, seed: int) -> None:
    """Groups of errors and Cancelled, of any shape: raised by itself; when told to stop; when the world is cancelled.

    With an error in it it is a crash, kept whole. Cancelled alone is the end that was ordered; it goes on, out of the
    system, only if it came from there.
    """
    real = flat(shape) != {"cancelled"}
    made: list[BaseException] = []

    def make(cancelled: trio.Cancelled) -> BaseException:
        made.append(build(shape, cancelled))
        return made[0]

    async def run() -> None:
        log = Log()
        passed = False
        with trio.CancelScope() as outer:
            async with system(log) as s:
                ref = await s.start_child(ChildSpec("a", lambda: Mixer(log), backoff=NOW, shutdown=1.0))
                await ref.cast(RaiseGroup(make) if how == "by itself" else Mixed(make))
                await settle()
                if how == "by itself":
                    assert await ref.call(Get()) == 0
                    assert ref.place.number == 2
                elif how == "stopped":
                    await s.stop_child("a")
                    passed = True
                else:
                    outer.cancel()
                    await trio.sleep_forever()
            passed = True
        assert passed is (how != "outer")
        assert outer.cancelled_caught is (how == "outer")
        reasons = [event.reason for event in log.seen(ActorEnded) if event.path == "t/a"]
        assert len(reasons) == (2 if how == "by itself" else 1)
        crashes = log.seen(ActorCrashed)
        if real or how == "by itself":
            (crash,) = crashes
            # what its own scope was cancelled with is no part of it
            kept = [leaf for leaf in leaves_of(made[0]) if how == "by itself" or not isinstance(leaf, trio.Cancelled)]
            assert list(map(id, leaves_of(crash.crash.error))) == list(map(id, kept))
            assert (reasons[0].kind, reasons[0].error) == ("crash", crash.crash.error)
        else:
            assert crashes == []
            assert reasons[0].kind == ("killed" if how == "stopped" else "cancelled")
        assert reasons[-1].restarting is False

    run_seeded(run, seed=seed)


significance = st.tuples(st.booleans(), st.sampled_from(["permanent", "transient", "temporary"]))


@common
@given(
    st.sampled_from(["never", "any_significant", "all_significant"]),
    st.lists(significance, min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from(["crash", "quit", "stop", "restart"]), st.integers(0, 3)), max_size=8),
    seeds,
)
def test_significant_children_end_their_supervisor_exactly_when_they_should(
    mode: Any, children: list[tuple[bool, str]], ops: list[tuple[str, int]], seed: int
) -> None:
    """By the last significant end for good by itself (or the first, for any); never by a stop or restart by hand."""
    kinds = [
        (significant and restart != "permanent" and mode != "never", restart) for significant, restart in children
    ]

    async def run() -> None:
        log = Log()
        alive = set(range(len(kinds)))
        ended: str | None = None
        async with system(log) as s:
            specs = [
                child(f"c{i}", log, restart=restart, significant=significant)
                for i, (significant, restart) in enumerate(kinds)
            ]
            spec = SupervisorSpec("g", children=specs, auto_shutdown=mode, restart="temporary", max_restarts=1000)
            g = await s.start_child(spec)
            for op, index in ops:
                if index not in alive or ended is not None:
                    continue
                significant, restart = kinds[index]
                name = f"c{index}"
                if op == "stop":
                    await g.stop_child(name)
                    alive.discard(index)
                elif op == "restart":
                    if restart == "temporary":
                        continue
                    await g.restart_child(name)
                else:
                    ref = g.child(name)
                    assert isinstance(ref, ActorRef)
                    ref.cast_nowait(Crash() if op == "crash" else Quit())
                    if restart == "temporary" or (restart == "transient" and op == "quit"):
                        alive.discard(index)
                        others = any(kinds[other][0] for other in alive)
                        if significant and (mode == "any_significant" or not others):
                            ended = name
                await settle()
                assert g.state == ("running" if ended is None else "stopped")
                assert s.statistics().actors == (len(alive) if ended is None else 0)
        assert [event.child for event in log.seen(AutoShutdown)] == ([] if ended is None else [f"t/g/{ended}"])

    run_seeded(run, seed=seed)


class Fatal(Counter):
    """Raises something fatal somewhere."""

    def __init__(self, log: Log, where: str, error: type[BaseException]) -> None:
        super().__init__(log)
        self.where = where
        self.error = error

    async def init(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.where == "init":
            raise self.error
        await super().init()

    async def terminate(self, reason: StopReason) -> None:
        await super().terminate(reason)
        if self.where == "terminate":
            raise self.error

    async def fail(self) -> None:
        await trio.sleep(0.5)
        raise BaseExceptionGroup("in a task", [self.error(), Boom()]) if self.where == "group" else self.error

    @handles(Add)
    async def add(self, message: Add) -> None:
        if self.where == "handler":
            raise self.error
        if self.where in {"task", "group"}:
            self.context.start_task(self.fail)
        if self.where == "nursery":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.fail)


@common
@given(
    st.sampled_from(["init", "handler", "task", "group", "nursery", "terminate"]),
    st.sampled_from([KeyboardInterrupt, SystemExit]),
    st.integers(0, 3),
    st.integers(0, 3),
    seeds,
)
def test_what_no_supervisor_may_mend_comes_out_of_the_system_from_any_depth(
    where: str, error: type[BaseException], depth: int, siblings: int, seed: int
) -> None:
    """It ends the system in order, every terminate() runs, nothing is restarted, and it is raised to the caller."""
    log = Log()
    entered: list[ActorSystem] = []

    async def run() -> None:
        async with system(log) as s:
            entered.append(s)
            at: Any = s
            for level in range(depth):
                for n in range(siblings):
                    await at.start_child(child(f"l{level}n{n}", log))
                at = await at.start_child(SupervisorSpec(f"g{level}"))
            ref = await at.start_child(ChildSpec("fatal", lambda: Fatal(log, where, error), backoff=NOW))
            await ref.cast(Add())
            await trio.sleep(1)
            if where == "terminate":
                return
            await trio.sleep_forever()

    with pytest.raises(BaseException) as caught:
        run_seeded(run, seed=seed, limit=100)
    assert any(type(leaf) is error for leaf in leaves_of(caught.value))
    if where not in {"group", "nursery"}:
        assert type(caught.value) is error
    (s,) = entered
    assert (s.statistics().actors, s.statistics().restarts, s.statistics().timers) == (0, 0, 0)
    assert Tally(log.of("init")) == Tally(line[:2] for line in log.of("terminate"))


class Busy(Counter):
    """Has one of everything: a task, timers, a monitor, a name, a group, a link, an owed reply."""

    made: weakref.WeakSet[Actor]

    def __init__(self, log: Log, made: weakref.WeakSet[Actor], other: ActorRef | None = None) -> None:
        super().__init__(log)
        made.add(self)
        self.other = other

    async def init(self) -> None:
        context = self.context
        context.register(context.name)
        context.join("all")
        context.start_task(trio.sleep_forever)
        context.send_after(1.0, Add())
        context.send_after(1e6, Add())
        if self.other is not None:
            context.monitor(self.other)
            with contextlib.suppress(NotRunning):
                context.link(self.other)
        await super().init()

    @handles(Down)
    def down(self, message: Down) -> None: ...


class Leaving:
    """Actors that hold one of everything, crashed, called and left; cut anywhere."""

    def __init__(self) -> None:
        self.log = Log()
        self.made: weakref.WeakSet[Actor] = weakref.WeakSet()

    async def run(self) -> None:
        before = tasks_of_this_run()
        try:
            async with system(self.log) as s:
                self.s = s
                try:
                    a = await s.start_child(ChildSpec("a", lambda: Busy(self.log, self.made), backoff=NOW))
                    b = await s.start_child(ChildSpec("b", lambda: Busy(self.log, self.made, a), backoff=NOW))
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self.ask, b)
                        await trio.sleep(2)
                        await a.cast(Crash())
                    await s.stop_child("b")
                except SupervisionError:
                    pass  # an injected fault may end any call
        finally:
            self.left = tasks_of_this_run() - before

    async def ask(self, ref: ActorRef) -> None:
        with contextlib.suppress(SupervisionError):
            await ref.call(Defer(100.0), math.inf)

    def check(self, error: BaseException | None) -> None:
        assert error is None or isinstance(error, InjectedFault)
        assert self.left == set()
        if hasattr(self, "s"):
            statistics = self.s.statistics()
            assert (statistics.actors, statistics.timers, statistics.names) == (0, 0, 0)
            assert self.s.registry.groups == {}
            assert not self.s.events.active
            for place in self.s._system.root.children.values():
                assert (place.life, place.monitors, place.inbox.count, place.inbox.waiting) == (None, None, 0, 0)
        self.log.events.clear()
        gc.collect()
        assert len(self.made) == 0, "an actor is held by something"


def tasks_of_this_run() -> set[trio.lowlevel.Task]:
    task = trio.lowlevel.current_task()
    return {below for nursery in task.child_nurseries for below in nursery.child_tasks}


def test_nothing_is_left_of_a_system_at_whatever_step_it_is_cut(
    record_property: Callable[[str, object], None],
) -> None:
    gc.collect()
    gc.freeze()  # so that a collection for each run looks at that run's objects only
    try:
        assert swept(Leaving, record_property) >= ENOUGH
    finally:
        gc.unfreeze()
