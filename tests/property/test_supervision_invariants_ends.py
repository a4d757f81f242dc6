"""Invariants of ends: in order, within their bounds, by whose end, and with nothing left."""

from __future__ import annotations

import contextlib
import gc
import math
import random
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from supervision import (
    Actor,
    ActorEnded,
    ActorRef,
    AutoShutdown,
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
from tests.property.programs import Note, common, seeds
from tests.supervision.world import (
    ENOUGH,
    NOW,
    Add,
    Counter,
    Crash,
    Defer,
    Log,
    Quit,
    child,
    settle,
    swept,
    system,
)


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


significance = st.tuples(st.booleans(), st.sampled_from(["permanent", "transient", "temporary"]))


@common
@given(
    st.sampled_from(["never", "any_significant", "all_significant"]),
    st.lists(significance, min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from(["crash", "quit", "stop", "restart"]), st.integers(0, 3)), max_size=8),
    seeds,
)
@example("any_significant", [(True, "transient"), (True, "transient")], [("quit", 0)], 0)
@example("all_significant", [(True, "transient"), (True, "temporary")], [("quit", 0), ("crash", 1)], 0)
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
