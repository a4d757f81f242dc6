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
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision import (
    Actor,
    ActorDown,
    ActorRef,
    ActorStopped,
    ActorStuck,
    Call,
    CallCycle,
    ChildNotFound,
    ChildSpec,
    DynamicSupervisorSpec,
    InvalidSpec,
    NameTaken,
    NotRunning,
    ResultTimeout,
    SupervisedTask,
    SupervisionError,
    SupervisorGaveUp,
    SupervisorSpec,
    TaskCancelled,
    TaskFailed,
    TaskSupervisor,
    TaskSupervisorSpec,
    TooManyChildren,
    Undelivered,
    handles,
)
from supervision.testing import InjectedFault, cancel_sweep, run_seeded
from tests.supervision.world import NOW, Boom, Crash, Get, Log, child, seeded, settle, system


async def nap(seconds: float, value: str = "rested") -> str:
    await trio.sleep(seconds)
    return value


async def deeper(text: str) -> None:
    await trio.lowlevel.checkpoint()
    raise Boom(text)


async def fail(seconds: float, text: str = "of the task") -> str:
    await trio.sleep(seconds)
    await deeper(text)
    return "never"


async def supervisor(s: Any, **options: Any) -> TaskSupervisor:
    tasks = await s.start_child(TaskSupervisorSpec("tasks", **options))
    assert isinstance(tasks, TaskSupervisor)
    return tasks


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


# ---- waits for oneself


class Ask(Call[str], frozen=True):
    """Start a task and wait for it."""


class Client(Actor):
    def __init__(self, tasks: TaskSupervisor) -> None:
        self.tasks = tasks

    @handles(Ask)
    async def ask(self, message: Ask) -> str:
        return await (await self.tasks.start(nap, 1.0)).result()


@seeded(seeds=10)
async def test_a_task_that_waits_for_room_of_its_own_is_a_cycle() -> None:
    async with system() as s:
        tasks = await supervisor(s, max_tasks=2)

        async def again() -> str:
            return await (await tasks.start(nap, 1.0)).result()

        # room for both: no cycle
        assert await (await tasks.start(again)).result() == "rested"
        # one has room to come: the other's end
        other = await tasks.start(nap, 3.0)
        assert await (await tasks.start(again)).result() == "rested"
        assert other.done
        # both wait: for whichever closes the ring it would never end
        both = [tasks.start_nowait(again, name=name) for name in "ab"]
        outcome: list[str] = []
        chains: list[tuple[str, ...]] = []
        for task in both:
            try:
                outcome.append(await task.result())
            except CallCycle as error:
                outcome.append("cycle")
                chains.append(error.chain)
        assert [chain[1] for chain in chains] == ["t/tasks"]
        assert sorted(outcome) == ["cycle", "rested"]


@seeded(seeds=10)
async def test_rings_over_calls_and_results() -> None:
    async with system() as s:
        tasks = await supervisor(s, max_tasks=1)
        client = await s.start_child(ChildSpec("client", lambda: Client(tasks)))

        async def ask() -> str:
            return await client.call(Ask(), timeout=1000)

        assert await client.call(Ask(), timeout=5) == "rested"  # nobody waits in a ring
        # a task calls an actor that waits for room: at whoever comes second the ring closes
        task = await tasks.start(ask)
        with pytest.raises(ActorDown) as caught:  # the actor closes the ring, which crashes it
            await task.result()
        assert isinstance(caught.value.reason.error, CallCycle)
        assert caught.value.reason.error.chain == ("t/client", "t/tasks")
        handle: list[SupervisedTask[Any]] = []

        async def myself() -> None:
            await handle[0].result()

        handle.append(tasks.start_nowait(myself))
        with pytest.raises(CallCycle, match=r"t/tasks/myself-\d+ -> t/tasks/myself-\d+"):
            await handle[0].result()


@seeded(seeds=10)
async def test_the_call_that_closes_a_ring_over_room() -> None:
    """The actor waits for room first; then the only task that could give it calls the actor."""
    async with system() as s:
        tasks = await supervisor(s, max_tasks=2)
        client = await s.start_child(ChildSpec("client", lambda: Client(tasks)))
        outcome: list[str] = []

        async def later(seconds: float) -> str:
            await trio.sleep(seconds)
            return await client.call(Ask(), timeout=1000)

        first, second = await tasks.start(later, 2.0), await tasks.start(later, 3.0)

        async def ask() -> None:
            outcome.append(await client.call(Ask(), timeout=1000))

        async with trio.open_nursery() as nursery:
            await trio.sleep(1.0)
            nursery.start_soon(ask)
            with pytest.raises(CallCycle) as caught:  # the first could still wait for the second's end
                await second.result()
            assert caught.value.chain == (second.path, "t/client", "t/tasks")
        assert outcome == ["rested"]
        assert await first.result() == "rested"


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
