"""Significant children end their supervisor, and only by an end of their own."""

from __future__ import annotations

import contextlib
import random
from collections import Counter as Tally
from typing import Any

import pytest
import trio

from supervision import (
    Actor,
    ActorEnded,
    ActorRef,
    ActorRestarted,
    ActorStarted,
    ActorStopped,
    AutoShutdown,
    ChildSpec,
    DynamicSupervisorSpec,
    IntensityExceeded,
    InvalidSpec,
    PlaceClosed,
    StopReason,
    SupervisorGaveUp,
    SupervisorRef,
    SupervisorSpec,
    open_system,
)
from supervision.testing import InjectedFault, cancel_sweep
from tests.supervision.world import NOW, Boom, Counter, Crash, Get, Log, Quit, child, seeded, settle, system


def group(mode: str, children: list[Any], **options: Any) -> SupervisorSpec:
    options.setdefault("restart", "transient")
    return SupervisorSpec("g", auto_shutdown=mode, children=children, backoff=NOW, **options)  # type: ignore[arg-type]


def worker(name: str, log: Log, restart: str = "transient", **options: Any) -> ChildSpec:
    return child(name, log, restart=restart, significant=True, **options)


def actor(supervisor: Any, name: str) -> ActorRef:
    found = supervisor.child(name)
    assert isinstance(found, ActorRef)
    return found


def end(ref: ActorRef, how: str) -> None:
    ref.cast_nowait(Quit() if how == "normal" else Crash())


@pytest.mark.parametrize("mode", ["any_significant", "all_significant"])
@pytest.mark.parametrize(
    ("restart", "how", "counts"),
    [
        ("transient", "normal", True),
        ("transient", "crash", False),
        ("temporary", "normal", True),
        ("temporary", "crash", True),
    ],
)
def test_which_ends_count(mode: str, restart: str, how: str, counts: bool) -> None:
    """any: the first that counts; all: the last; in order, the one that ended first of all."""

    @seeded()
    async def run() -> None:
        log = Log()
        async with system(log) as s:
            g = await s.start_child(
                group(mode, [worker("a", log, restart), child("x", log), worker("b", log, restart), child("y", log)])
            )
            names = ["b"] if mode == "any_significant" else ["a", "b"]
            for name in names:
                assert g.state == "running"
                log.lines.clear()
                end(actor(g, name), how)
                await settle()
            assert g.state == ("stopped" if counts else "running")
            if counts:
                others = "yxa" if mode == "any_significant" else "yx"
                assert [line[0] for line in log.of("terminate")] == ["b", *others]
                assert [(event.path, event.child) for event in log.seen(AutoShutdown)] == [("t/g", "t/g/b")]
                (closed,) = [event.reason for event in log.seen(PlaceClosed) if event.path == "t/g"]
                assert (closed.kind, closed.detail) == ("shutdown", "its significant child t/g/b has ended")
                assert s.statistics().actors == 0
                assert s.statistics().restarts == 0
            else:
                assert log.seen(AutoShutdown) == []

    run()


@seeded()
async def test_ends_by_the_supervisor_or_by_hand_never_count() -> None:
    log = Log()
    async with system(log) as s:
        g = await s.start_child(
            group(
                "any_significant",
                [
                    child("first", log),
                    worker("a", log),
                    worker("b", log, "temporary"),
                    worker("c", log, max_restarts=0, max_seconds=1.0),
                ],
                strategy="rest_for_one",
            )
        )
        await g.restart_child("a")
        actor(g, "first").cast_nowait(Crash())  # the batch stops all, and the temporary one stays away
        await settle()
        assert list(g.children()) == ["first", "a", "c"]
        actor(g, "c").cast_nowait(Crash())  # degraded alone
        await settle()
        assert (g.state, actor(g, "c").state) == ("running", "degraded")
        for name in "ac":
            await g.stop_child(name)
            assert g.state == "running"
        assert (g.state, log.seen(AutoShutdown)) == ("running", [])
        # all_significant: whoever was stopped holds nobody up, and is not waited for
        await s.stop_child("g")
        g = await s.start_child(group("all_significant", [worker(name, log) for name in "ab"]))
        await g.stop_child("a")
        assert g.state == "running"
        end(actor(g, "b"), "normal")
        await settle()
        assert g.state == "stopped"


@seeded()
async def test_a_child_that_restarts_holds_its_supervisor_up() -> None:
    log = Log()

    async def slow(counter: Counter) -> None:
        await trio.sleep(3 * (counter.context.incarnation - 1))

    async with system(log) as s:
        g = await s.start_child(group("all_significant", [worker("a", log, on_init=slow), worker("b", log)]))
        end(actor(g, "a"), "crash")
        await trio.sleep(1)
        assert actor(g, "a").state == "starting"
        end(actor(g, "b"), "normal")
        await trio.sleep(10)
        assert (g.state, actor(g, "a").state) == ("running", "running")
        end(actor(g, "a"), "normal")
        await settle()
        assert g.state == "stopped"


@seeded()
async def test_a_significant_end_is_over_before_the_shutdown_begins() -> None:
    log = Log()

    class Slow(Counter):
        async def terminate(self, reason: StopReason) -> None:
            await trio.sleep(2)
            await super().terminate(reason)

    async with system(log) as s:
        g = await s.start_child(
            group(
                "any_significant",
                [child("x", log), ChildSpec("a", lambda: Slow(log), restart="transient", significant=True)],
            )
        )
        end(actor(g, "a"), "normal")
        await trio.sleep(1)
        assert g.state == "running"
        assert await actor(g, "x").call(Get()) == 0
        await trio.sleep(1.001)
        assert g.state == "stopped"
        assert [line[0] for line in log.of("terminate")] == ["a", "x"]


@seeded()
async def test_the_shutdown_is_bounded_by_the_supervisors_own() -> None:
    class Stubborn(Actor):
        async def terminate(self, reason: StopReason) -> None:
            await trio.sleep(1000)

    log = Log()
    async with system(log) as s:
        g = await s.start_child(
            group(
                "any_significant",
                [ChildSpec("x", Stubborn, shutdown=100.0), worker("a", log)],
                shutdown=3.0,
            )
        )
        end(actor(g, "a"), "normal")
        await trio.sleep(2.9)
        assert g.state == "stopping"
        await trio.sleep(0.2)
        assert g.state == "stopped"


@seeded()
async def test_a_permanent_supervisor_is_restarted_and_begins_anew() -> None:
    log = Log()
    async with system(log) as s:
        outer = await s.start_child(SupervisorSpec("o", max_restarts=2, max_seconds=10.0, restart="temporary"))
        inner = SupervisorSpec(
            "in", children=[worker("deep", log)], auto_shutdown="any_significant", restart="temporary"
        )
        spec = group(
            "any_significant",
            [
                child("x", log),
                worker("a", log),
                child("t", log, restart="temporary"),
                inner,
            ],
            restart="permanent",
        )
        g = await outer.start_child(spec)
        added = await g.start_child(child("z", log))
        await g.stop_child("x")
        before = {name: ref for name, ref in g.children().items() if isinstance(ref, ActorRef)}
        end(actor(g, "a"), "normal")
        await settle()
        # all of the spec again, in its order, whatever became of it, and then who was added and lives
        assert list(g.children()) == ["x", "a", "t", "in", "z"]
        assert [line[0] for line in log.of("init")][-5:] == ["x", "a", "t", "deep", "z"]
        assert {name: ref.state for name, ref in g.children().items()} == dict.fromkeys(g.children(), "running")
        for name in ("x", "a", "z"):
            assert actor(g, name) == before[name]
            assert await before[name].call(Get()) == 0
        assert (added.state, g.statistics().incarnation) == ("running", 2)
        # it was counted, and so are the next ones: the third within the window is one too many
        for _ in range(2):
            end(actor(g, "a"), "normal")
            await settle()
        assert [event.path for event in log.seen(SupervisorGaveUp)] == ["t/o"]
        assert outer.state == "stopped"
        assert s.statistics().actors == 0


@seeded()
async def test_a_supervisor_restarted_after_a_crash_keeps_who_had_ended_away() -> None:
    """Only an automatic shutdown begins anew."""
    log = Log()
    async with system(log) as s:
        g = await s.start_child(
            group("all_significant", [worker("a", log), worker("b", log), child("x", log)], max_restarts=0)
        )
        end(actor(g, "a"), "normal")
        await settle()
        end(actor(g, "x"), "crash")
        await settle()
        assert (g.state, g.statistics().incarnation) == ("running", 2)
        assert {name: ref.state for name, ref in g.children().items()} == {
            "a": "stopped",
            "b": "running",
            "x": "running",
        }


@seeded()
async def test_significance_goes_up_the_tree() -> None:
    log = Log()
    async with system(log) as s:
        inner = SupervisorSpec(
            "in",
            children=[worker("a", log)],
            auto_shutdown="all_significant",
            restart="transient",
            significant=True,
        )
        g = await s.start_child(group("any_significant", [child("x", log), inner], restart="temporary"))
        a = actor(g.child("in"), "a")
        end(a, "normal")
        await settle()
        assert [(event.path, event.child) for event in log.seen(AutoShutdown)] == [
            ("t/g/in", "t/g/in/a"),
            ("t/g", "t/g/in"),
        ]
        assert g.state == "stopped"
        assert "g" not in s.children()
        # a supervisor that fails and is temporary ends for good, too
        inner = SupervisorSpec(
            "in", children=[child("a", log)], max_restarts=0, restart="temporary", significant=True
        )
        g = await s.start_child(group("any_significant", [child("x", log), inner]))
        end(actor(g.child("in"), "a"), "crash")
        await settle()
        assert g.state == "stopped"
        closed = {event.path: event.reason.kind for event in log.seen(PlaceClosed)}
        assert (closed["t/g/in"], closed["t/g"]) == ("crash", "shutdown")


@seeded()
async def test_an_end_while_the_supervisor_starts_counts_when_all_have_started() -> None:
    log = Log()

    def leave(counter: Counter) -> None:
        counter.context.stop()

    async def slow(_: Counter) -> None:
        await trio.sleep(1)

    for mode, state in (("any_significant", "stopped"), ("all_significant", "running")):
        async with system(log) as s:
            g = await s.start_child(group(mode, [worker("a", log, on_init=leave), worker("b", log, on_init=slow)]))
            assert ("b", 1) in log.of("init")
            await settle()
            assert g.state == state


@seeded()
async def test_children_added_at_run_time_count_too() -> None:
    log = Log()
    async with system(log) as s:
        g = await s.start_child(group("all_significant", []))
        for name in "ab":
            await g.start_child(worker(name, log, "temporary"))

        async def never(_: Counter) -> None:
            await trio.sleep_forever()

        outcomes: list[str] = []

        async def start() -> None:
            with pytest.raises(ActorStopped):
                await g.start_child(worker("c", log, on_init=never))
            outcomes.append("cut off")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            await settle()
            end(actor(g, "a"), "crash")
            await settle()
            assert g.state == "running"
            end(actor(g, "b"), "normal")  # who has not started yet holds nobody up
        assert outcomes == ["cut off"]
        await settle()
        assert g.state == "stopped"
        assert s.statistics().actors == 0


def test_the_roots_shutdown_ends_the_system_without_an_error() -> None:
    @seeded()
    async def run() -> None:
        log = Log()
        body: list[str] = []
        async with system(log, auto_shutdown="all_significant") as s:
            assert s.finished_by is None
            x = await s.start_child(child("x", log))
            a = await s.start_child(worker("a", log))
            assert await x.call(Get()) == 0
            a.cast_nowait(Quit())
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                body.append("cancelled")
                raise
        assert body == ["cancelled"]
        assert s.finished_by == "t/a"
        assert [line[0] for line in log.of("terminate")] == ["a", "x"]
        assert s.statistics().actors == 0

    run()


def test_an_error_of_the_body_is_not_lost_when_the_root_shuts_down() -> None:
    async def run() -> None:
        async with open_system("t", random=random.Random(1), auto_shutdown="any_significant") as s:
            await s.start_child(worker("a", Log()))
            end(actor(s, "a"), "normal")
            try:
                await trio.sleep_forever()
            finally:
                raise Boom("of the body")

    with pytest.raises(Boom, match="of the body"):
        trio.run(run)


def test_bad_specs() -> None:
    log = Log()
    with pytest.raises(InvalidSpec, match="'a': a permanent child never ends for good"):
        child("a", log, significant=True)
    with pytest.raises(InvalidSpec, match="'d': a permanent child never ends"):
        DynamicSupervisorSpec("d", significant=True)
    with pytest.raises(InvalidSpec, match="the child 'a' is significant, but nothing ends with it"):
        SupervisorSpec("g", children=[worker("a", log)])
    with pytest.raises(InvalidSpec, match="auto_shutdown is never, any_significant or all_significant"):
        SupervisorSpec("g", auto_shutdown="sometimes")  # type: ignore[arg-type]

    @seeded(seeds=1)
    async def run() -> None:
        async with system() as s:
            d: SupervisorRef = await s.start_child(DynamicSupervisorSpec("d"))
            for where in (s, d):
                with pytest.raises(InvalidSpec, match="is significant, but nothing ends with it"):
                    await where.start_child(worker("a", log))
            assert d.children() == {}

    run()


class Ending:
    """The significant child ends while others start, crash and are stopped: cut anywhere, nothing is left."""

    def __init__(self) -> None:
        self.log = Log()
        self.finished = False

    async def run(self) -> None:
        log = self.log

        async def slow(_: Counter) -> None:
            await trio.sleep(0.5)

        async with system(log) as s:
            self.s = s
            o = await s.start_child(SupervisorSpec("o", max_restarts=3, restart="transient", on_intensity="degrade"))
            g = await o.start_child(
                group(
                    "all_significant",
                    [worker("a", log), child("x", log, on_init=slow), worker("b", log, "temporary")],
                    restart="permanent",
                )
            )
            self.g = g
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._try, g.start_child, child("y", log, on_init=slow))
                nursery.start_soon(self._try, actor(g, "a").cast, Quit())
                nursery.start_soon(self._try, actor(g, "b").cast, Crash())
                await trio.sleep(0.2)
            await trio.sleep(5)
            self.finished = True
            self.state = g.state
            self.children = {name: ref.state for name, ref in g.children().items()}

    async def _try(self, function: Any, argument: Any) -> None:
        with contextlib.suppress(ActorStopped, InjectedFault, Boom):
            await function(argument)

    def check(self, error: BaseException | None) -> None:
        assert error is None or isinstance(error, (InjectedFault, IntensityExceeded)), repr(error)
        inits, terminates = Tally(self.log.of("init")), Tally(line[:2] for line in self.log.of("terminate"))
        # an injected fault may strike between the end of init() and its log line, never the other way round
        assert inits <= terminates, f"no terminate: {inits - terminates}"
        running: set[str] = set()
        for event in self.log.events:
            if isinstance(event, (ActorStarted, ActorRestarted)):
                assert event.path not in running, f"{event.path} overlaps"
                running.add(event.path)
            elif isinstance(event, ActorEnded):
                running.discard(event.path)
        assert running == set()
        if hasattr(self, "s"):
            assert (self.s.statistics().actors, self.s.statistics().timers) == (0, 0)
        if self.finished and error is None:
            assert self.log.seen(AutoShutdown) or self.log.seen(SupervisorGaveUp)
            if self.state == "running":
                assert [self.children[name] for name in "axb"] == ["running"] * 3, self.children


def test_an_automatic_shutdown_cut_at_any_step() -> None:
    assert cancel_sweep(Ending, seeds=range(4)).runs > 150
