"""Supervised tasks cut at any step, and started, failed and left in any order."""

from __future__ import annotations

import contextlib
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision import (
    ActorStopped,
    ChildNotFound,
    DynamicSupervisorSpec,
    NotRunning,
    SupervisedTask,
    TaskCancelled,
    TaskFailed,
    TaskSupervisor,
    TaskSupervisorSpec,
    Undelivered,
)
from supervision.testing import InjectedFault, cancel_sweep, run_seeded
from tests.supervision.task_functions import supervisor
from tests.supervision.world import NOW, Boom, Log, settle, system

# ---- at every step, in any order


class Tasking:
    """Tasks that end in each way, with a line in front: cut anywhere, each has an end, and nothing is left."""

    def __init__(self) -> None:
        self.log = Log()
        self.running = 0
        self.most = 0
        self.tasks: list[SupervisedTask[Any]] = []

    async def work(self, seconds: float, how: str) -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await trio.sleep(seconds)
            if how == "error":
                raise Boom
            return how
        finally:
            self.running -= 1

    async def run(self) -> None:
        async with system(self.log) as s:
            self.s = s
            tasks = await supervisor(s, max_tasks=2, grace=1.0)
            self.place = tasks.place
            async with trio.open_nursery() as nursery:
                for n, how in enumerate(("value", "error", "cancel", "value", "error")):
                    nursery.start_soon(self._start, tasks, 0.2 * n, how)
                await trio.sleep(0.5)
            await tasks.start(self.work, 100.0, "value")
            await trio.sleep(0.1)

    async def _start(self, tasks: TaskSupervisor, seconds: float, how: str) -> None:
        task = await tasks.start(self.work, seconds, how)
        self.tasks.append(task)
        if how == "cancel":
            task.cancel()
        with contextlib.suppress(Boom, InjectedFault, TaskCancelled, ActorStopped):
            await task.result()

    def check(self, error: BaseException | None) -> None:
        assert error is None or isinstance(error, InjectedFault), repr(error)
        assert self.running == 0
        assert self.most <= 2
        assert all(task.done for task in self.tasks)
        if hasattr(self, "place"):
            keeper = self.place.keeper
            assert (keeper.room.waiting, keeper.room._taken, self.s._system.unasked) == (0, 0, {})
            assert self.place.children == {}
        if hasattr(self, "s"):
            assert (self.s.statistics().actors, self.s.statistics().timers) == (0, 0)
        assert self.log.seen(Undelivered) == []


def test_tasks_cut_at_any_step() -> None:
    assert cancel_sweep(Tasking, seeds=range(4)).runs > 200


@settings(deadline=None)
@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(
            st.sampled_from(["value", "error", "cancel", "stop"]),
            st.sampled_from([0.0, 0.5, 1.0]),
            st.one_of(st.none(), st.sampled_from([0.0, 0.5, 1.5])),
            st.booleans(),
        ),
        max_size=8,
    ),
    st.one_of(st.none(), st.sampled_from([0.0, 0.5, 1.0, 2.0])),
    st.integers(0, 2**32 - 1),
)
def test_each_error_is_raised_or_reported(
    limit: int, plan: list[tuple[str, float, float | None, bool]], stop: float | None, seed: int
) -> None:
    """Whatever tasks do and whoever leaves: bounded, each ends, and each error is raised to someone or reported."""

    async def run() -> None:
        log = Log()
        running = 0
        failed: set[str] = set()
        told: set[str] = set()

        async def work(name: str, how: str, seconds: float) -> str:
            nonlocal running
            running += 1
            assert running <= limit
            try:
                await trio.sleep(seconds)
                if how == "error":
                    failed.add(name)
                    raise Boom(name)
                return name
            finally:
                running -= 1

        async def use(tasks: TaskSupervisor, n: int, how: str, seconds: float, patience: float | None) -> None:
            name = f"w{n}"
            with trio.move_on_after(1000.0 if patience is None else patience):
                try:
                    task = await tasks.start(work, name, how, seconds, name=name)
                except NotRunning:
                    return
                if how == "cancel":
                    task.cancel()
                if how == "stop":
                    with contextlib.suppress(ChildNotFound):
                        await tasks.stop_child(name)
                if patience is None or asks[n]:
                    try:
                        assert await task.result() == name
                    except Boom:
                        told.add(name)
                    except (TaskCancelled, ActorStopped):
                        assert how in {"cancel", "stop"} or stop is not None

        asks = [ask for *_, ask in plan]
        async with system(log) as s:
            d = await s.start_child(DynamicSupervisorSpec("d", backoff=NOW))
            tasks = await d.start_child(TaskSupervisorSpec("tasks", max_tasks=limit, grace=0.25))
            async with trio.open_nursery() as nursery:
                for n, (how, seconds, patience, _) in enumerate(plan):
                    nursery.start_soon(use, tasks, n, how, seconds, patience)
                if stop is not None:
                    await trio.sleep(stop)
                    await d.stop_child("tasks")
            await trio.sleep(10)
            assert running == 0
            assert tasks.place.children == {}
            await settle()
        reported = [event.path.removeprefix("t/d/tasks/") for event in log.seen(TaskFailed)]
        assert sorted(reported) == sorted(failed - told)
        assert s.statistics().actors == 0

    run_seeded(run, seed=seed)
