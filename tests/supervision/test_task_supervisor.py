"""Supervised tasks: bounded, in the tree, each with a result or an error of its own."""

from __future__ import annotations

import contextlib
import gc
import traceback
import weakref
from functools import partial
from typing import Any

import pytest
import trio

from supervision import (
    InvalidSpec,
    NameTaken,
    ResultTimeout,
    SupervisedTask,
    SupervisionError,
    SupervisorGaveUp,
    TaskFailed,
    TaskSupervisorSpec,
    TooManyChildren,
    Undelivered,
)
from tests.supervision.task_functions import fail, nap, supervisor
from tests.supervision.world import Boom, Get, Log, child, seeded, settle, system

# ---- results


@seeded()
async def test_the_value_or_the_tasks_own_error() -> None:
    async with system() as s:
        tasks = await supervisor(s)
        good = await tasks.start(nap, 1.0, "value")
        bad = await tasks.start(fail, 1.0)
        assert (good.done, good.name, good.path) == (False, "nap-1", "t/tasks/nap-1")
        for _ in range(2):
            assert await good.result() == "value"
        assert good.done
        seen: list[BaseException] = []
        for _ in range(3):
            with pytest.raises(Boom, match="of the task") as caught:
                await bad.result()
            seen.append(caught.value)
            names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
            # raised here by result(), there by the task: no frame of the actor, and none twice
            assert names[-3:] == ["unwrap", "fail", "deeper"]
            assert len([name for name in names if name in {"result", "unwrap", "run"}]) == 2
        assert len(set(map(id, seen))) == 1
        assert s.tree().find("t/tasks").children == ()


@seeded()
async def test_result_waits_no_longer_than_its_timeout() -> None:
    async with system() as s:
        tasks = await supervisor(s)
        task = await tasks.start(nap, 3.0)
        for timeout, doing in ((0.0, "(starting|handling)"), (1.0, "handling")):  # its first step may be yet to come
            before = trio.current_time()
            with pytest.raises(ResultTimeout, match=rf"t/tasks/nap-1 has not ended within \d s; it has been {doing}"):
                await task.result(timeout)
            assert trio.current_time() - before == pytest.approx(timeout)
        assert issubclass(ResultTimeout, TimeoutError)
        with pytest.raises(InvalidSpec, match="timeout must be at least 0"):
            await task.result(-1.0)
        with trio.move_on_after(1.0) as scope:
            await task.result()
        assert scope.cancelled_caught
        assert await task.result() == "rested"  # whoever leaves changes nothing


@seeded()
async def test_a_tasks_crash_is_its_own() -> None:
    log = Log()
    async with system(log, max_restarts=0) as s:
        tasks = await supervisor(s)
        sibling = await s.start_child(child("sibling", log))
        other = await tasks.start(nap, 5.0)
        for n in range(50):
            task = await tasks.start(fail, 0.0, f"number {n}")
            with pytest.raises(Boom, match=f"number {n}"):
                await task.result()
        assert (tasks.state, other.done) == ("running", False)
        assert await sibling.call(Get()) == 0
        assert await other.result() == "rested"
        assert s.statistics().restarts == 0
        assert log.seen(SupervisorGaveUp) == log.seen(TaskFailed) == log.seen(Undelivered) == []
        assert s.statistics().undelivered == 0


# ---- errors that nobody asks for


@seeded()
async def test_an_error_that_nobody_asks_for_is_reported_once() -> None:
    log = Log()

    def reported() -> list[str]:
        return [f"{event.path}: {event.crash.text}" for event in log.seen(TaskFailed)]

    async with system(log) as s:
        tasks = await supervisor(s)
        await tasks.start(fail, 0.0, "let go at once", name="a")
        await settle()
        assert reported() == ["t/tasks/a: Boom: let go at once"]
        (event,) = log.seen(TaskFailed)
        assert [frame[2] for frame in event.crash.frames] == ["fail", "deeper"]
        assert event.crash.error.__traceback__ is None  # which would keep what the task had
        handle: Any = await tasks.start(fail, 0.0, "let go later", name="b")
        await settle()
        assert len(reported()) == 1
        del handle
        gc.collect()
        await settle()
        assert reported()[1:] == ["t/tasks/b: Boom: let go later"]
        # asked for, before and after the end: not reported, whenever the handle goes
        asked = [await tasks.start(fail, seconds, "asked", name=f"c{seconds}") for seconds in (0.0, 1.0)]
        await settle()
        for task in asked:
            with pytest.raises(Boom):
                await task.result()
        del asked, task
        gc.collect()
        await settle()
        assert len(reported()) == 2
        # neither a timeout nor a cancelled wait is an answer
        impatient = await tasks.start(fail, 1.0, "not awaited to the end", name="d")
        with pytest.raises(ResultTimeout):
            await impatient.result(0.5)
        await trio.sleep(1)
        kept = await tasks.start(fail, 0.0, "kept", name="e")
        fine = await tasks.start(nap, 0.0)
        await settle()
        assert len(reported()) == 2
        await s.stop_child("tasks")
        assert len(reported()) == 2  # who has the handle may still ask
    assert reported()[2:] == ["t/tasks/d: Boom: not awaited to the end", "t/tasks/e: Boom: kept"]
    with pytest.raises(Boom, match="kept") as caught:  # late, but as it was raised
        await kept.result()
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "deeper"
    del kept, impatient, fine
    gc.collect()
    await settle()
    assert len(reported()) == 4


@seeded(seeds=20)
async def test_who_waits_when_the_task_fails_has_asked() -> None:
    """Also if it is cancelled in the very step in which it would have been told."""
    log = Log()
    async with system(log) as s:
        tasks = await supervisor(s)
        outcome: list[str] = []

        async def ask(task: SupervisedTask[str], scope: trio.CancelScope) -> None:
            with scope:
                try:
                    await task.result()
                except Boom:
                    outcome.append("told")

        async def leave(scope: trio.CancelScope) -> None:
            await trio.sleep(1.0)
            for _ in range(3):
                scope.cancel()
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(ask, await tasks.start(fail, 1.0), scope)
            nursery.start_soon(leave, scope)
        await settle()
        await settle()
        assert len(outcome) + len(log.seen(TaskFailed)) == 1


# ---- room


@seeded()
async def test_starts_wait_for_room_in_order() -> None:
    log: list[str] = []

    async def note(name: str) -> None:
        log.append(name)
        await trio.sleep(1)

    async with system() as s:
        tasks = await supervisor(s, max_tasks=2)
        started: list[tuple[str, float]] = []

        async def start(name: str) -> None:
            await tasks.start(note, name, name=name)
            started.append((name, trio.current_time() - begin))

        begin = trio.current_time()
        async with trio.open_nursery() as nursery:
            for name in "abcdef":
                nursery.start_soon(start, name)
                await settle()
            assert (tasks.waiting, tasks.max_tasks) == (4, 2)
            assert [info.name for info in tasks.which_children()] == ["a", "b"]
            with pytest.raises(TooManyChildren, match="t/tasks: max_tasks is 2; 4 wait for room"):
                tasks.start_nowait(note, "g")
        assert log == [name for name, _ in started] == list("abcdef")
        assert [round(at) for _, at in started] == [0, 0, 1, 1, 2, 2]
        await trio.sleep(2)
        assert tasks.count_children().specs == tasks.waiting == 0
        assert await tasks.start_nowait(nap, 0.0).result() == "rested"


@seeded(seeds=20)
async def test_a_cancelled_start_leaves_the_line_and_starts_nothing() -> None:
    started: list[str] = []

    async def note(name: str) -> None:
        started.append(name)

    async with system() as s:
        tasks = await supervisor(s, max_tasks=1)
        first = await tasks.start(nap, 1.0)
        returned: list[str] = []

        async def start(name: str, patience: float) -> None:
            with trio.move_on_after(patience) as scope:
                await tasks.start(note, name, name=name)
                returned.append(name)
            assert scope.cancelled_caught is (name not in returned)

        async with trio.open_nursery() as nursery:
            for name, patience in (("a", 0.5), ("b", 1.0), ("c", 10.0)):  # b leaves in the step where room comes
                nursery.start_soon(start, name, patience)
        await settle()
        assert await first.result() == "rested"
        assert started == returned
        assert set(returned) in ({"c"}, {"b", "c"})
        assert tasks.waiting == 0
        assert await (await tasks.start(nap, 0.0)).result() == "rested"


@seeded()
async def test_room_is_given_back_by_every_end() -> None:
    async with system() as s:
        tasks = await supervisor(s, max_tasks=1, grace=1.0)
        for end in ("value", "error", "cancel", "cancel before it begins", "stop"):
            task: SupervisedTask[Any] = await tasks.start(fail if end == "error" else nap, 100.0, name="only")
            if not end.endswith("begins"):
                await settle()
            if end.startswith("cancel"):
                task.cancel()
            elif end == "stop":
                await tasks.stop_child("only")
            else:
                await trio.sleep(100)
            with contextlib.suppress(SupervisionError, Boom):
                await task.result()
            assert task.done
            assert tasks.count_children().specs == 0
        with pytest.raises(InvalidSpec):
            await tasks.start(nap, 0.0, name="a/b")
        assert await tasks.start_nowait(nap, 0.0).result() == "rested"


# ---- in the tree


@seeded()
async def test_tasks_live_in_the_tree() -> None:
    async with system() as s:
        tasks = await supervisor(s)
        await tasks.start(nap, 10.0, name="mine")
        await tasks.start(partial(nap, 10.0))
        await tasks.start(lambda: nap(10.0))
        await settle()
        assert [child.name for child in s.tree().find("t/tasks").children] == ["mine", "task-1", "<lambda>-2"]
        node = s.tree().find("t/tasks/mine")
        assert (node.state, node.in_hand) == ("running", "RunTask")
        with pytest.raises(NameTaken, match="t/tasks has a task 'mine' already"):
            await tasks.start(nap, 0.0, name="mine")
        with pytest.raises(NameTaken):
            tasks.start_nowait(nap, 0.0, name="mine")
        with pytest.raises(InvalidSpec, match="a name must not be empty and must not contain '/'"):
            tasks.start_nowait(nap, 0.0, name="a/b")
        with pytest.raises(InvalidSpec, match="a task is started with an async function, got 3"):
            await tasks.start(3)  # type: ignore[arg-type]
        with pytest.raises(InvalidSpec, match=r"t/tasks: no start_child\(\): it runs tasks, see start\(\)"):
            await tasks.start_child(child("a"))
        with pytest.raises(InvalidSpec, match="is temporary and never started again"):
            await tasks.restart_child("mine")
        wrong = await tasks.start(lambda: 3)  # type: ignore[arg-type, return-value]
        with pytest.raises(TypeError, match="can't be used in 'await' expression"):
            await wrong.result()
        assert repr(wrong) == "<SupervisedTask t/tasks/<lambda>-3 done>"
        assert tasks.count_children().active == 3
        await s.stop_child("tasks")


@seeded()
async def test_a_name_may_be_taken_while_a_start_waits() -> None:
    async with system() as s:
        tasks = await supervisor(s, max_tasks=2)
        await tasks.start(nap, 1.0)
        await tasks.start(nap, 2.0)
        outcome: list[str] = []

        async def start() -> None:
            try:
                await tasks.start(nap, 10.0, name="x")
                outcome.append("started")
            except NameTaken:
                outcome.append("taken")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            nursery.start_soon(start)
        assert sorted(outcome) == ["started", "taken"]
        assert tasks.count_children().specs == 1
        tasks.start_nowait(nap, 0.0)  # the room of who was refused is there again
        await s.stop_child("tasks")


def test_bad_specs() -> None:
    for options, text in (
        ({"max_tasks": 0}, "max_tasks must be at least 1, or None, got 0"),
        ({"max_tasks": True}, "max_tasks must be at least 1"),
        ({"grace": -1.0}, "grace must be at least 0 seconds, or inf, got -1.0"),
        ({"shutdown": -1.0}, "shutdown must be at least 0"),
        ({"significant": True}, "a permanent child never ends"),
        ({"restart": "sometimes"}, "restart is permanent"),
    ):
        with pytest.raises(InvalidSpec, match=text):
            TaskSupervisorSpec("tasks", **options)  # type: ignore[arg-type]


@seeded(seeds=2)
async def test_nothing_is_left_of_a_task_that_has_ended() -> None:
    class Big:
        pass

    async def use(big: Big, crash: bool) -> None:
        await trio.lowlevel.checkpoint()
        if crash:
            raise Boom

    async with system() as s:
        tasks = await supervisor(s)
        left: list[weakref.ref[Big]] = []
        handles_: list[SupervisedTask[None]] = []
        for crash in (False, True):
            big = Big()
            left.append(weakref.ref(big))
            task = await tasks.start(use, big, crash)
            del big
            await settle()
            if not crash:
                handles_.append(task)  # a handle keeps the result, and nothing else
            del task
        await settle()
        gc.collect()
        assert [ref() for ref in left] == [None, None]
        assert handles_[0].done
        assert s.statistics().timers == 0
