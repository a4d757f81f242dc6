"""An actor's own tasks and timers die with its incarnation."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import pytest
import trio

from supervision import (
    Actor,
    ActorCrashed,
    ActorDown,
    ActorEnded,
    ActorStopped,
    ActorTask,
    Cast,
    ChildSpec,
    InvalidSpec,
    StopReason,
    Undelivered,
    UnknownMessage,
    handles,
)
from supervision.timers import Timers
from tests.supervision.world import NOW, Add, Boom, Counter, Crash, Get, Log, Nap, child, seeded, settle, system


class Go(Cast, frozen=True):
    """Start the task."""


class Worker(Counter):
    """Runs a given function in a task of its own."""

    def __init__(self, log: Log, function: object, *args: object) -> None:
        super().__init__(log)
        self.function = function
        self.args = args
        self.task: ActorTask | None = None

    @handles(Go)
    def go(self, message: Go) -> None:
        self.task = self.context.start_task(self.function, *self.args, name="work")  # type: ignore[arg-type]


@seeded()
async def test_a_task_that_hears_of_its_actors_end_has_not_crashed() -> None:
    """It has something to begin in the very step in which its actor is stopped."""
    log = Log()
    for nested, crashes in ((False, False), (True, False), (False, True), (True, True)):
        worker: list[Worker] = []
        closed: list[StopReason] = []

        async def begin(crashes: bool = crashes, worker: list[Worker] = worker) -> None:
            try:
                await trio.sleep_forever()
            finally:
                if crashes:
                    raise Boom("while it ends")
                worker[0].context.start_task(trio.sleep_forever)

        async def begin_within(begin: Callable[[], Awaitable[None]] = begin) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(begin)

        worker.append(Worker(log, begin_within if nested else begin))
        async with system(log) as s:
            ref = await s.start_child(ChildSpec("a", lambda worker=worker: worker[0], on_close=closed.append))
            await ref.cast(Go())
            await settle()
            await s.stop_child("a")
        assert [reason.kind for reason in closed] == ["crash" if crashes else "shutdown"], (nested, crashes)


@seeded()
async def test_a_tasks_crash_is_the_actors() -> None:
    log = Log()

    async def fail() -> None:
        await trio.sleep(1)
        raise Boom("in a task")

    async with system(log) as s:
        ref = await s.start_child(ChildSpec("a", lambda: Worker(log, fail), backoff=NOW))
        await ref.cast(Go())
        with pytest.raises(ActorDown, match="in a task"):
            await ref.call(Nap(5.0))  # the handler in hand is cancelled and its caller hears why
        assert await ref.call(Get()) == 0
        (event,) = log.seen(ActorCrashed)
        assert isinstance(event.crash.error, Boom)
        assert log.of("init") == [("a", 1), ("a", 2)]


@seeded()
async def test_errors_of_several_tasks_are_kept_whole() -> None:
    log = Log()

    async def fail_late() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom("while it was cancelled")

    async with system(log) as s:
        ref = await s.start_child(ChildSpec("a", lambda: Worker(log, fail_late), backoff=NOW))
        await ref.cast(Go())
        await ref.cast(Go())
        await ref.cast(Crash())
        await settle()
        (event,) = log.seen(ActorCrashed)
        assert isinstance(event.crash.error, ExceptionGroup)
        assert [str(error) for error in event.crash.error.exceptions] == [
            "on demand",
            *["while it was cancelled"] * 2,
        ]
        assert "while it was cancelled" in event.crash.text
        assert s.statistics().restarts == 1


@seeded()
async def test_tasks_have_ended_before_terminate_and_before_the_next_incarnation() -> None:
    log = Log()

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
            log.add("task ended")

    async with system(log) as s:
        ref = await s.start_child(ChildSpec("a", lambda: Worker(log, work), backoff=NOW))
        await ref.cast(Go())
        await ref.cast(Crash())
        await ref.call(Get())
        assert [line[0] for line in log.lines] == ["init", "task ended", "terminate", "init"]


@seeded()
async def test_a_task_can_be_cancelled_alone() -> None:
    log = Log()
    handles_of: list[ActorTask] = []

    class Keeps(Worker):
        def go(self, message: Go) -> None:
            super().go(message)
            assert self.task is not None
            handles_of.append(self.task)

    async with system(log) as s:
        ref = await s.start_child(ChildSpec("a", lambda: Keeps(log, trio.sleep_forever)))
        await ref.cast(Go())
        await settle()
        (task,) = handles_of
        assert not task.done
        assert s.tree().find("t/a").tasks == 1
        task.cancel()
        task.cancel()
        await settle()
        assert task.done
        assert s.tree().find("t/a").tasks == 0
        assert s.statistics().restarts == 0


@seeded()
async def test_nothing_is_started_once_the_incarnation_ends() -> None:
    errors: list[type[Exception]] = []

    class Late(Actor):
        async def terminate(self, reason: StopReason) -> None:
            for action in (
                lambda: self.context.start_task(trio.sleep_forever),
                lambda: self.context.send_after(1, Add()),
                lambda: self.context.monitor(self.context.ref),
            ):
                try:
                    action()
                except ActorStopped as error:
                    errors.append(type(error))

    async with system() as s:
        await s.start_child(ChildSpec("a", Late))
    assert errors == [ActorStopped] * 3


@seeded()
async def test_timers_never_reach_a_later_incarnation() -> None:
    log = Log()

    def set_timer(counter: Counter) -> None:
        if counter.context.incarnation == 1:
            counter.context.send_after(2.0, Add(1))
            counter.context.send_after(5.0, Add(2))
            cancelled = counter.context.send_after(1.0, Add(3))
            cancelled.cancel()
            cancelled.cancel()

    async with system(log) as s:
        ref = await s.start_child(child("a", log, on_init=set_timer))
        await trio.sleep(1.5)
        async with trio.open_nursery() as nursery:

            async def nap() -> None:
                with pytest.raises(ActorDown):
                    await ref.call(Nap(2.0), math.inf)

            nursery.start_soon(nap)
            await settle()
            await trio.sleep(1)  # the first timer's message is queued behind the nap
            nursery.start_soon(s.restart_child, "a")
            await settle()
            nursery.cancel_scope.cancel()
        await trio.sleep(10)
        assert log.of("add") == []
        assert s.statistics().timers == 0
        assert ref.statistics().in_hand is None


@seeded()
async def test_timer_messages_arrive_and_bad_ones_are_refused() -> None:
    log = Log()
    refused: list[type[Exception]] = []

    class Unheard(Cast, frozen=True):
        pass

    def set_timer(counter: Counter) -> None:
        counter.context.send_after(2.0, Add(7))
        for delay, message in ((-1.0, Add()), (math.nan, Add()), (1.0, Unheard())):
            try:
                counter.context.send_after(delay, message)
            except (InvalidSpec, UnknownMessage) as error:
                refused.append(type(error))

    async with system(log) as s:
        await s.start_child(child("a", log, on_init=set_timer))
        await trio.sleep(1.9)
        assert log.of("add") == []
        await trio.sleep(0.2)
        assert log.of("add") == [("a", 7)]
    assert refused == [InvalidSpec, InvalidSpec, UnknownMessage]
    assert log.seen(Undelivered) == []


@seeded()
async def test_stop_by_oneself_and_what_terminate_raises() -> None:
    log = Log()

    class Fails(Counter):
        async def terminate(self, reason: StopReason) -> None:
            await super().terminate(reason)
            raise Boom("in terminate")

    async with system(log) as s:
        await s.start_child(ChildSpec("a", lambda: Fails(log), restart="transient"))
        await s.stop_child("a")
        (ended,) = [event for event in log.seen(ActorEnded) if event.path == "t/a"]
        assert ended.reason.kind == "shutdown"
        assert "terminate() raised Boom: in terminate" in str(ended.reason)
        assert len(log.seen(ActorCrashed)) == 1


@seeded(seeds=1)
async def test_the_timer_task_never_ticks_and_its_heap_stays_small() -> None:
    """100,000 timeouts that never come leave nothing, and an idle system lets virtual time jump."""
    async with system() as s:
        ref = await s.start_child(child("a"))
        for _ in range(2000):
            await ref.call(Get(), timeout=3600)
        timers: Timers = s._system.timers
        assert timers.live == 0
        assert len(timers) <= 192

        class Steps(trio.abc.Instrument):
            count = 0

            def before_task_step(self, task: trio.lowlevel.Task) -> None:
                self.count += 1

        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        await trio.sleep(80_000)
        trio.lowlevel.remove_instrument(steps)
        assert steps.count < 10
