"""Supervised tasks that are cancelled and stopped, alone and with the tree."""

from __future__ import annotations

import pytest
import trio

from supervision import (
    ActorRef,
    ActorStopped,
    ActorStuck,
    NotRunning,
    SupervisorSpec,
    TaskCancelled,
    TaskFailed,
    TaskSupervisor,
    TaskSupervisorSpec,
    Undelivered,
)
from tests.supervision.task_functions import fail, nap, supervisor
from tests.supervision.world import Boom, Crash, Log, child, seeded, settle, system

# ---- cancel and stop


@seeded()
async def test_cancel() -> None:
    log = Log()

    async def stubborn() -> str:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return "ended all the same"
        return "never"

    async def mixed() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise Boom("while it was cancelled")

    async with system(log) as s:
        tasks = await supervisor(s)
        for early in (True, False):
            task = await tasks.start(nap, 100.0)
            if not early:
                await settle()
            task.cancel()
            task.cancel("again")
            with pytest.raises(TaskCancelled, match=r"t/tasks/nap-\d has no result: it was cancelled by cancel"):
                await task.result()
            assert task.done
            task.cancel()  # too late for anything
        value = await tasks.start(stubborn)
        await settle()
        value.cancel()
        assert await value.result() == "ended all the same"
        both = await tasks.start(mixed)
        await settle()
        both.cancel()
        with pytest.raises(BaseExceptionGroup) as caught:
            await both.result()
        assert [type(error) for error in caught.value.exceptions] == [Boom]  # no Cancelled gets to whoever asks
        assert log.seen(TaskFailed) == log.seen(Undelivered) == []


@seeded()
async def test_a_stop_gives_tasks_their_grace_and_then_cancels_them() -> None:
    log = Log()

    async def mixed() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise Boom("while it was stopped")

    async with system(log) as s:
        await s.start_child(child("before", log))
        tasks = await supervisor(s, grace=2.0, max_tasks=4)
        await s.start_child(child("after", log))
        quick = await tasks.start(nap, 1.0)
        slow = await tasks.start(nap, 100.0)
        error = await tasks.start(fail, 1.5)
        group = await tasks.start(mixed)
        outcome: list[str] = []

        async def wait() -> None:
            with pytest.raises(NotRunning, match="t/tasks is not running: stopping"):
                await tasks.start(nap, 0.0)
            outcome.append(f"refused at {trio.current_time() - before:.3f}")

        await settle()
        before = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await settle()
            assert tasks.waiting == 1
            nursery.start_soon(s.stop_child, "tasks")
            await settle()
            with pytest.raises(NotRunning):
                tasks.start_nowait(nap, 0.0)
        assert trio.current_time() - before == pytest.approx(2.0, abs=0.01)
        assert outcome == ["refused at 0.001"]
        assert await quick.result() == "rested"
        with pytest.raises(Boom):
            await error.result()
        with pytest.raises(ActorStopped, match="t/tasks/nap-2 is not running: stopped; killed"):
            await slow.result()
        with pytest.raises(ExceptionGroup) as caught:
            await group.result()
        assert [str(error) for error in caught.value.exceptions] == ["while it was stopped"]
        assert log.seen(ActorStuck) == log.seen(Undelivered) == log.seen(TaskFailed) == []
        with pytest.raises(NotRunning, match="stopped"):
            await tasks.start(nap, 0.0)
        await s.restart_child("tasks")
        again = s.child("tasks")
        assert isinstance(again, TaskSupervisor)
        assert await (await again.start(nap, 0.0)).result() == "rested"


@seeded()
async def test_shutdown_in_order_with_the_tree() -> None:
    log = Log()

    async def note() -> None:
        try:
            await trio.sleep_forever()
        finally:
            log.add("terminate", "task")

    async with system(log) as s:
        await s.start_child(child("before", log))
        tasks = await supervisor(s, grace=1.0)
        await s.start_child(child("after", log))
        task = await tasks.start(note)
        await settle()
        before = trio.current_time()
    assert trio.current_time() - before == pytest.approx(1.0)
    assert [line[0] for line in log.of("terminate")] == ["after", "task", "before"]
    with pytest.raises(ActorStopped):
        await task.result()


@seeded()
async def test_the_world_around_is_cancelled() -> None:
    log = Log()
    with trio.CancelScope() as scope:
        async with system(log) as s:
            tasks = await supervisor(s, grace=100.0)
            task = await tasks.start(nap, 1000.0)
            failed = await tasks.start(fail, 0.0)
            await settle()
            before = trio.current_time()
            scope.cancel()
    assert trio.current_time() == before
    with pytest.raises(ActorStopped, match="cancelled"):
        await task.result()
    assert [event.path for event in log.seen(TaskFailed)] == [failed.path]


def test_keyboard_interrupt_in_a_task_ends_the_system() -> None:
    async def interrupt() -> None:
        raise KeyboardInterrupt

    async def run() -> None:
        async with system() as s:
            task = await (await supervisor(s)).start(interrupt)
            with pytest.raises(ActorStopped):
                await task.result()
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(run)


@seeded()
async def test_who_swallows_cancelled_is_reported_stuck() -> None:
    log = Log()

    async def swallow() -> str:
        for _ in range(2):
            with trio.CancelScope(shield=True):
                await trio.sleep(10)
        return "at last"

    async with system(log) as s:
        tasks = await supervisor(s, grace=1.0)
        task = await tasks.start(swallow)
        await settle()
        await tasks.stop_child(task.name)
        (event,) = log.seen(ActorStuck)
        assert event.path == task.path
        assert any("swallow" in line for line in event.stack)
        assert await task.result() == "at last"


@seeded()
async def test_a_restart_of_the_supervisor_ends_its_tasks() -> None:
    log = Log()
    async with system(log) as s:
        g = await s.start_child(
            SupervisorSpec(
                "g",
                strategy="one_for_all",
                children=[child("a", log), TaskSupervisorSpec("tasks", grace=0.0, max_tasks=1)],
            )
        )
        tasks = g.child("tasks")
        assert isinstance(tasks, TaskSupervisor)
        task = await tasks.start(nap, 100.0)
        a = g.child("a")
        assert isinstance(a, ActorRef)
        await a.cast(Crash())
        with pytest.raises(ActorStopped):
            await task.result()
        await settle()
        assert await (await tasks.start(nap, 0.0)).result() == "rested"
        assert tasks.statistics().incarnation == 2
