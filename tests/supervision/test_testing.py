"""supervision.testing: seeded runs and the sweep do what they say, and the sweep over our own scenarios."""

from __future__ import annotations

import gc
import math
import random
from collections import Counter as Tally

import pytest
import trio

from supervision import (
    ActorCrashed,
    ActorEnded,
    ActorRestarted,
    ActorStarted,
    ActorTask,
    Backoff,
    DynamicSupervisorSpec,
    IntensityExceeded,
    SupervisionError,
    SupervisorSpec,
)
from supervision.testing import InjectedFault, SweepFailed, VirtualHang, cancel_sweep, run_seeded
from supervision.testing import seeded as seeded_module
from tests.supervision.world import NOW, Add, Boom, Counter, Crash, Defer, Get, Log, Nap, child, system


async def race() -> tuple[int, ...]:
    order: list[int] = []

    async def walk(i: int) -> None:
        for _ in range(4):
            order.append(i)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for i in range(4):
            nursery.start_soon(walk, i)
    return tuple(order)


def test_one_seed_gives_one_schedule() -> None:
    assert len({run_seeded(race, seed=7) for _ in range(20)}) == 1
    assert len({run_seeded(race, seed=seed) for seed in range(30)}) > 5


def test_the_schedulers_state_is_put_back() -> None:
    module, generator = seeded_module._scheduler()
    before = (vars(module)["_ALLOW_DETERMINISTIC_SCHEDULING"], generator.getstate())
    run_seeded(race, seed=3)
    assert (vars(module)["_ALLOW_DETERMINISTIC_SCHEDULING"], generator.getstate()) == before


def test_trios_private_names_are_where_we_expect_them() -> None:
    """If this fails, trio has moved them: supervision/testing/seeded.py and sweep.py must follow."""
    module, generator = seeded_module._scheduler()
    assert isinstance(generator, random.Random)
    assert isinstance(vars(module)["_ALLOW_DETERMINISTIC_SCHEDULING"], bool)
    assert hasattr(trio.lowlevel.Task, "_next_send")


def test_moved_names_are_said_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(trio._core._run, "_r")
    with pytest.raises(RuntimeError, match="has moved its scheduler's private names"):
        run_seeded(race, seed=1)


# A loop that was broken leaves its sockets and coroutines to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_virtual_hang_is_an_error_even_behind_a_shield() -> None:
    with pytest.raises(VirtualHang, match="not finished after 10 virtual seconds"):
        run_seeded(trio.sleep_forever, seed=1, limit=10.0)

    async def shielded() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

    with pytest.warns(RuntimeWarning) if False else _ignore(), pytest.raises(VirtualHang, match="sleep_forever"):
        run_seeded(shielded, seed=1, limit=10.0)
    gc.collect()


class _ignore:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def test_errors_come_out_bare_with_the_seed() -> None:
    async def fail() -> None:
        raise Boom("as it is")

    with pytest.raises(Boom) as caught:
        run_seeded(fail, seed=42)
    assert caught.value.__notes__ == ["run_seeded: seed=42"]


class Everything:
    """Start, calls, casts, tasks, deferred replies, a crash, a restart by hand, a stop: two supervisors deep."""

    def __init__(self) -> None:
        self.log = Log()
        self.statistics: object = None
        self.tasks: list[ActorTask] = []
        self.ended = 0

    async def run(self) -> None:
        log = self.log
        outer = trio.lowlevel.current_task()
        before = set(_descendants(outer))
        try:
            async with system(log) as s:
                self.s = s
                g = await s.start_child(
                    SupervisorSpec(
                        "g", strategy="rest_for_one", children=[child("a", log), child("b", log)], backoff=NOW
                    )
                )
                d = await s.start_child(DynamicSupervisorSpec("d", backoff=NOW))
                c = await d.start_child(child("c", log, backoff=Backoff(initial=0.5, jitter=0.5)))
                a, b = g.child("a"), g.child("b")
                try:
                    await b.call(Get())  # type: ignore[union-attr]
                    await a.cast(Crash())  # type: ignore[union-attr]
                    await b.call(Get(), timeout=3.0)  # type: ignore[union-attr]
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._ask, c)
                        await trio.sleep(0.1)
                        await c.cast(Crash())
                    await g.restart_child("b")
                    await d.stop_child("c")
                    await b.call(Nap(0.5), timeout=1.0)  # type: ignore[union-attr]
                except SupervisionError:
                    pass  # an injected fault may end any call
        finally:
            self.left = set(_descendants(outer)) - before

    async def _ask(self, ref: object) -> None:
        try:
            await ref.call(Defer(5.0), math.inf)  # type: ignore[attr-defined]
        except SupervisionError:
            self.ended += 1

    def check(self, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, (InjectedFault, IntensityExceeded)):
            raise AssertionError(f"unexpected: {error!r}") from error
        assert self.left == set(), f"tasks left: {self.left}"
        check_lives(self.log)
        if hasattr(self, "s"):
            statistics = self.s.statistics()
            assert (statistics.actors, statistics.timers, statistics.names) == (0, 0, 0)


def _descendants(task: trio.lowlevel.Task) -> list[trio.lowlevel.Task]:
    return [child for nursery in task.child_nurseries for child in nursery.child_tasks]


def check_lives(log: Log) -> None:
    """Every successful init has one terminate, and incarnations of one actor do not overlap."""
    inits, terminates = Tally(log.of("init")), Tally(line[:2] for line in log.of("terminate"))
    assert set(inits.values()) <= {1}
    assert set(terminates.values()) <= {1}
    # an injected fault may strike between the end of init() and its log line, never the other way round
    assert set(inits) <= set(terminates), f"no terminate: {set(inits) - set(terminates)}"
    running: dict[str, int] = {}
    for event in log.events:
        if isinstance(event, (ActorStarted, ActorRestarted)):
            assert event.path not in running, f"{event.path} overlaps"
            running[event.path] = event.incarnation
        elif isinstance(event, ActorEnded):
            running.pop(event.path, None)
    assert running == {}, f"not ended: {running}"


def test_cancel_and_crash_at_every_step() -> None:
    report = cancel_sweep(Everything, seeds=range(3))
    assert report.steps >= 50
    assert report.runs > 200


def test_the_sweep_finds_what_is_wrong() -> None:
    class Leaky(Everything):
        def check(self, error: BaseException | None) -> None:
            super().check(error)
            crashes = [event for event in self.log.seen(ActorCrashed) if event.path == "t/g/b"]
            assert not crashes, "b must never crash"

    with pytest.raises(SweepFailed, match=r"raise at step \d+ of \d+, seed=0: AssertionError: b must never crash"):
        cancel_sweep(Leaky, actions=["raise"])


class Starting:
    """A start that takes several steps, cut anywhere: all or nothing."""

    def __init__(self) -> None:
        self.log = Log()
        self.children: dict[str, object] = {}
        self.returned = False

    async def run(self) -> None:
        async def slow(_: Counter) -> None:
            await trio.sleep(0.5)
            await trio.sleep(0.5)

        async with system(self.log) as s:
            try:
                await s.start_child(
                    SupervisorSpec(
                        "g", children=[child("a", self.log, on_init=slow), child("b", self.log, on_init=slow)]
                    )
                )
                self.returned = True
            finally:
                self.children = s.children()
                self.actors = s.statistics().actors

    def check(self, error: BaseException | None) -> None:
        assert error is None or isinstance(error, InjectedFault)
        check_lives(self.log)
        if not self.returned and hasattr(self, "actors"):
            assert self.children == {}
            assert self.actors == 0


def test_a_start_cut_at_any_step_leaves_nothing() -> None:
    assert cancel_sweep(Starting, seeds=range(5)).runs > 50


class Mailing:
    """Casts accepted = handled + undelivered, wherever it is cut."""

    def __init__(self) -> None:
        self.log = Log()
        self.accepted: list[int] = []

    async def run(self) -> None:
        async with system(self.log) as s:
            self.s = s
            ref = await s.start_child(child("a", self.log))
            for n in range(6):
                ref.cast_nowait(Add(n))
                self.accepted.append(n)
                if n in {1, 3}:
                    ref.cast_nowait(Crash())
                await trio.lowlevel.checkpoint()
            await ref.call(Get(), timeout=5.0)

    def check(self, error: BaseException | None) -> None:
        assert error is None or isinstance(error, InjectedFault)
        check_lives(self.log)
        handled = [line[1] for line in self.log.of("add")]
        lost = [event.message.n for event in self.log.seen(_undelivered()) if isinstance(event.message, Add)]
        assert sorted(handled + lost) == self.accepted
        assert handled == sorted(handled)


def _undelivered() -> type:
    from supervision import Undelivered

    return Undelivered


def test_casts_are_conserved_at_every_step() -> None:
    assert cancel_sweep(Mailing, seeds=range(5)).runs > 50
