"""supervision.testing: seeded runs and the sweep do what they say, and the sweep over our own scenarios."""

from __future__ import annotations

import contextlib
import gc
import math
import random
import traceback
from collections import Counter as Tally
from collections.abc import Callable
from typing import Any

import pytest
import trio

from supervision import (
    ActorCrashed,
    ActorEnded,
    ActorRestarted,
    ActorStarted,
    ActorTask,
    Backoff,
    ChildSpec,
    DynamicSupervisorSpec,
    IntensityExceeded,
    SupervisionError,
    SupervisorSpec,
)
from supervision.testing import InjectedFault, SweepFailed, VirtualHang, cancel_sweep, run_seeded
from supervision.testing import seeded as seeded_module
from tests.supervision.world import ENOUGH, NOW, Add, Boom, Counter, Crash, Defer, Get, Log, Nap, child, swept, system


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


@pytest.mark.parametrize(
    ("holder", "name", "said"),
    [
        (trio._core._run, "_r", "_core._run._r"),
        (trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", "_core._run._ALLOW_DETERMINISTIC_SCHEDULING"),
        (trio.lowlevel.Task, "_next_send", "lowlevel.Task._next_send"),
    ],
)
def test_moved_names_are_said_clearly(monkeypatch: pytest.MonkeyPatch, holder: object, name: str, said: str) -> None:
    monkeypatch.delattr(holder, name)
    with pytest.raises(RuntimeError, match=f"has moved private names that supervision.testing needs: {said};"):
        run_seeded(race, seed=1)


# A loop that was broken leaves its sockets and coroutines to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_virtual_hang_is_an_error_even_behind_a_shield() -> None:
    with pytest.raises(VirtualHang, match="not finished after 10 virtual seconds"):
        run_seeded(trio.sleep_forever, seed=1, limit=10.0)

    async def shielded() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

    with pytest.raises(VirtualHang, match="sleep_forever"):
        run_seeded(shielded, seed=1, limit=10.0)
    gc.collect()


def test_a_program_that_runs_for_ever_is_an_error_although_no_time_passes() -> None:
    async def spin() -> None:
        await trio.sleep(3.0)
        while True:
            await trio.lowlevel.checkpoint()

    with pytest.raises(VirtualHang, match="after 1,000 turns of the loop no time has passed since 3"):
        run_seeded(spin, seed=1, limit=10.0, turns=1_000)


def test_errors_come_out_bare_with_the_seed() -> None:
    async def fail() -> None:
        raise Boom("as it is")

    with pytest.raises(Boom) as caught:
        run_seeded(fail, seed=42)
    assert caught.value.__notes__ == ["run_seeded: seed=42"]
    assert traceback.format_exception(caught.value)[-2:] == [
        "tests.supervision.world.Boom: as it is\n",
        "run_seeded: seed=42\n",
    ]  # so whoever prints the error prints the seed


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
        self.check_ends()

    def check_ends(self) -> None:
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


def test_cancel_and_crash_at_every_step(record_property: Callable[[str, object], None]) -> None:
    assert cancel_sweep(Everything, seeds=[0], actions=["cancel"]).steps >= 50
    assert swept(Everything, record_property) >= ENOUGH


def test_a_deadline_at_every_step() -> None:
    assert cancel_sweep(Everything, seeds=range(2), actions=["timeout"]).runs > 100


class Interrupted(Everything):
    """^C always comes out, alone or (out of a nursery) in a group, and everything ends as it should all the same."""

    def check(self, error: BaseException | None) -> None:
        while isinstance(error, BaseExceptionGroup):
            (error,) = error.exceptions
        if UNDISTURBED not in self.log.lines:
            assert isinstance(error, KeyboardInterrupt), repr(error)
        self.check_ends()


UNDISTURBED = ("undisturbed",)


def test_an_interrupt_at_every_step() -> None:
    runs = 0

    def scenario() -> Interrupted:
        nonlocal runs
        made = Interrupted()
        if not runs:
            made.log.add(*UNDISTURBED)
        runs += 1
        return made

    for seed in range(3):
        runs = 0
        assert cancel_sweep(scenario, seeds=[seed], actions=["interrupt"]).runs > 50


class Leaky(Everything):
    def check(self, error: BaseException | None) -> None:
        super().check(error)
        crashes = [event for event in self.log.seen(ActorCrashed) if event.path == "t/g/b"]
        assert not crashes, "b must never crash"


def test_the_sweep_finds_what_is_wrong_and_repeats_it() -> None:
    with pytest.raises(SweepFailed, match=r"raise at step \d+ of \d+, seed=3: AssertionError: b must") as caught:
        cancel_sweep(Leaky, actions=["raise"], seeds=[3])
    only = caught.value.only
    assert only is not None
    assert only[0] == "raise"
    assert only[2] == 3
    assert f"cancel_sweep(..., only={only!r})" in str(caught.value)
    traces: list[list[object]] = []

    class Traced(Leaky):
        def check(self, error: BaseException | None) -> None:
            traces.append([(type(event), event.path) for event in self.log.events])
            super().check(error)

    for _ in range(3):
        with pytest.raises(SweepFailed, match=f"raise at step {only[1]}, seed=3: AssertionError: b must") as again:
            cancel_sweep(Traced, only=only)
        assert again.value.only == only
    assert len(traces) == 3  # one run each, not even an undisturbed one
    assert traces[0] == traces[1] == traces[2]


def test_a_run_is_struck_once() -> None:
    class Counts(Everything):
        def check(self, error: BaseException | None) -> None:
            struck = [event for event in self.log.seen(ActorCrashed) if isinstance(event.crash.error, InjectedFault)]
            strikes.append(len(struck) + isinstance(error, InjectedFault))

    strikes: list[int] = []
    cancel_sweep(Counts, actions=["raise"])
    assert set(strikes) == {0, 1}
    assert sum(strikes) > 10


@pytest.mark.parametrize("action", ["cancel", "timeout", "raise", "interrupt"])
def test_every_action_can_be_repeated(action: Any) -> None:
    """The same run, to the event."""
    traces: list[list[object]] = []

    class Traced(Everything):
        def check(self, error: BaseException | None) -> None:
            traces.append([(type(event), event.path) for event in self.log.events])

    swept: list[list[object]] = []
    cancel_sweep(Traced, actions=[action], seeds=[1])
    _undisturbed, *swept = traces
    assert len({str(trace) for trace in swept}) > 5
    for step in range(0, len(swept), 7):
        traces.clear()
        try:
            assert cancel_sweep(Traced, only=(action, step, 1)).runs == 1
        except SweepFailed as nothing:
            assert "nothing can be struck" in str(nothing)  # noqa: PT017
        assert traces == [swept[step]]


def test_a_timeout_comes_as_a_deadline_does() -> None:
    reasons: list[str] = []

    class Waits:
        async def run(self) -> None:
            try:
                await trio.sleep(1)
                await trio.sleep(1)
            except trio.Cancelled as cancelled:
                reasons.append(str(cancelled))
                raise

        def check(self, error: BaseException | None) -> None:
            assert error is None

    cancel_sweep(Waits, actions=["timeout", "cancel"])
    timed_out = [reason for reason in reasons if "deadline" in reason]
    cancelled = [reason for reason in reasons if "the sweep cancels the scenario" in reason]
    assert len(timed_out) >= 2
    assert len(cancelled) >= 2
    assert len(timed_out) + len(cancelled) == len(reasons)


def test_the_end_of_a_nursery_is_struck_by_none_but_trio() -> None:
    """Nothing can be raised from that wait: the sweep would break trio, not the program."""

    class Nursing(Counter):
        async def init(self) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 1)

    class Starts:
        async def run(self) -> None:
            async with system() as s:
                with contextlib.suppress(InjectedFault):
                    await s.start_child(ChildSpec("a", Nursing))

        def check(self, error: BaseException | None) -> None:
            while isinstance(error, BaseExceptionGroup):
                (error,) = error.exceptions
            assert error is None or isinstance(error, (KeyboardInterrupt, InjectedFault))

    assert cancel_sweep(Starts, actions=["raise", "interrupt"]).runs > 5


def test_bad_sweeps_say_so() -> None:
    with pytest.raises(ValueError, match="an action is cancel, timeout, raise or interrupt, got 'explode'"):
        cancel_sweep(Everything, actions=["explode"])  # type: ignore[list-item]
    with pytest.raises(SweepFailed, match="nothing can be struck at step 100000, seed=0"):
        cancel_sweep(Everything, only=("cancel", 100000, 0))

    async def elsewhere() -> None:
        await trio.to_thread.run_sync(lambda: cancel_sweep(Everything, actions=["interrupt"]))

    with pytest.raises(RuntimeError, match="interrupt needs the main thread"):
        trio.run(elsewhere)


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
