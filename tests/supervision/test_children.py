"""What a supervisor is asked and told about its children at run time."""

from __future__ import annotations

import pytest
import trio

from supervision import (
    ActorRef,
    Backoff,
    ChildCounts,
    ChildInfo,
    ChildNotFound,
    ChildNotStopped,
    DynamicSupervisorSpec,
    InvalidSpec,
    NotRunning,
    SupervisorRef,
    SupervisorSpec,
)
from supervision.testing import InjectedFault, cancel_sweep
from tests.supervision.world import Boom, Counter, Crash, Get, Log, Quit, child, seeded, settle, system


def states(supervisor: SupervisorRef) -> dict[str, str]:
    return {info.name: info.state for info in supervisor.which_children()}


@seeded()
async def test_which_children_says_what_each_child_is() -> None:
    async with system(auto_shutdown="all_significant") as s:
        a = await s.start_child(child("a"))
        d = await s.start_child(DynamicSupervisorSpec("d", restart="temporary"))
        b = await s.start_child(child("b", restart="transient", significant=True))

        assert [
            (info.name, info.kind, info.state, info.ref, info.restart, info.significant)
            for info in s.which_children()
        ] == [
            ("a", "actor", "running", a, "permanent", False),
            ("d", "supervisor", "running", d, "temporary", False),
            ("b", "actor", "running", b, "transient", True),
        ]
        assert all(isinstance(info, ChildInfo) for info in s.root.which_children())
        assert s.count_children() == ChildCounts(specs=3, active=3, supervisors=1, actors=2)
        assert d.count_children() == ChildCounts(specs=0, active=0, supervisors=0, actors=0)


@seeded()
async def test_a_stopped_child_is_kept_until_it_is_deleted() -> None:
    log = Log()
    async with system(log) as s:
        g = await s.start_child(
            SupervisorSpec(
                "g",
                children=[
                    child("stopped", log),
                    child("ended", log, restart="transient"),
                    child("temporary", log, restart="temporary"),
                    child("degraded", log, max_restarts=0, max_seconds=1.0),
                    SupervisorSpec("below", children=[child("x", log)]),
                ],
            )
        )
        await g.stop_child("stopped")
        await g.stop_child("below")
        for name, message in (("ended", Quit()), ("temporary", Quit()), ("degraded", Crash())):
            ref = g.child(name)
            assert isinstance(ref, ActorRef)
            await ref.cast(message)
        await settle()

        assert states(g) == {"stopped": "stopped", "ended": "stopped", "degraded": "degraded", "below": "stopped"}
        assert g.count_children() == ChildCounts(specs=4, active=0, supervisors=1, actors=3)
        await g.restart_child("ended")
        assert list(states(g)) == ["stopped", "ended", "degraded", "below"]  # at its place
        for name in ("stopped", "degraded", "below"):
            await g.delete_child(name)
            with pytest.raises(ChildNotFound):
                await g.restart_child(name)
        assert states(g) == {"ended": "running"}
        again = await g.start_child(child("stopped", log))  # the name is free
        assert await again.call(Get()) == 0
        assert list(states(g)) == ["ended", "stopped"]


@seeded()
async def test_only_a_stopped_child_is_deleted() -> None:
    async with system() as s:
        slow = Backoff(initial=100.0, maximum=100.0, jitter=0)
        a = await s.start_child(child("a", backoff=slow))
        await s.start_child(DynamicSupervisorSpec("d"))

        for name in ("a", "d"):
            with pytest.raises(ChildNotStopped, match=f"t/{name} is running; only a stopped or degraded child"):
                await s.delete_child(name)
        with pytest.raises(ChildNotFound, match="no child 'z'"):
            await s.delete_child("z")
        a.cast_nowait(Crash())
        await settle()
        with pytest.raises(ChildNotStopped, match="t/a is waiting"):  # for its restart
            await s.delete_child("a")
        assert list(s.children()) == ["a", "d"]


@seeded()
async def test_a_temporary_child_is_not_restarted_by_hand() -> None:
    async with system() as s:
        a = await s.start_child(child("a", restart="temporary"))
        with pytest.raises(InvalidSpec, match="t/a is temporary and never started again"):
            await s.restart_child("a")
        assert await a.call(Get()) == 0


@seeded()
async def test_the_counts_are_right_while_children_restart() -> None:
    log = Log()

    async def slow(counter: Counter) -> None:
        if counter.context.incarnation > 1:
            await trio.sleep(2)

    later = Backoff(initial=1.0, maximum=1.0, jitter=0)
    async with system(log) as s:
        g = await s.start_child(
            SupervisorSpec(
                "g",
                strategy="rest_for_one",
                children=[child(name, log, on_init=slow, backoff=later) for name in "abc"],
            )
        )
        o = await s.start_child(
            SupervisorSpec("o", children=[child("a", log, on_init=slow, backoff=later), child("b", log)])
        )
        for supervisor, name in ((g, "b"), (o, "a")):
            ref = supervisor.child(name)
            assert isinstance(ref, ActorRef)
            ref.cast_nowait(Crash())
        seen: list[tuple[dict[str, str], int, dict[str, str], int]] = []
        for _ in range(6):
            await trio.sleep(0.9)
            for supervisor in (g, o):
                counts = supervisor.count_children()
                assert (counts.specs, counts.actors) == (len(supervisor.children()), len(supervisor.children()))
            seen.append((states(g), g.count_children().active, states(o), o.count_children().active))
        assert seen == [
            # 0.9 s: both wait for the back-off
            ({"a": "running", "b": "down", "c": "down"}, 1, {"a": "waiting", "b": "running"}, 1),
            # 1.8 s, 2.7 s: in init()
            ({"a": "running", "b": "starting", "c": "down"}, 2, {"a": "starting", "b": "running"}, 2),
            ({"a": "running", "b": "starting", "c": "down"}, 2, {"a": "starting", "b": "running"}, 2),
            # 3.6 s, 4.5 s
            ({"a": "running", "b": "running", "c": "starting"}, 3, {"a": "running", "b": "running"}, 2),
            ({"a": "running", "b": "running", "c": "starting"}, 3, {"a": "running", "b": "running"}, 2),
            ({"a": "running", "b": "running", "c": "running"}, 3, {"a": "running", "b": "running"}, 2),
        ]


class Deleting:
    """Start, stop, delete and restart the same names, cut anywhere: who is deleted is gone, and nothing is left."""

    def __init__(self) -> None:
        self.log = Log()
        self.errors: list[BaseException] = []

    async def run(self) -> None:
        async with system(self.log) as s:
            self.s = s
            await s.start_child(child("a", self.log))
            await s.start_child(child("b", self.log))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._replace, "a")
                nursery.start_soon(self._restart, "a")
                nursery.start_soon(self._replace, "b")

    async def _replace(self, name: str) -> None:
        try:
            await self.s.stop_child(name)
            await self.s.delete_child(name)
            assert name not in self.s.children()
        except (ChildNotStopped, ChildNotFound):
            return
        try:
            await self.s.start_child(child(name, self.log))
        except (InjectedFault, Boom):
            return

    async def _restart(self, name: str) -> None:
        try:
            await self.s.restart_child(name)
        except (ChildNotFound, NotRunning, InjectedFault):
            return

    def check(self, error: BaseException | None) -> None:
        assert error is None or isinstance(error, InjectedFault), repr(error)
        if hasattr(self, "s"):
            assert self.s.statistics().actors == 0
            assert all(info.state == "stopped" for info in self.s.which_children())
            assert self.s.count_children().active == 0
        inits, terminates = self.log.of("init"), [line[:2] for line in self.log.of("terminate")]
        assert len(inits) <= len(terminates)


def test_deletes_cut_at_any_step() -> None:
    assert cancel_sweep(Deleting, seeds=range(5)).runs > 100
