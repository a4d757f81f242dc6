"""Calls that go on without their caller."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Never

import pytest
import trio
import trio.testing

from supervision import TaskSupervisorSpec, open_system
from tinker_actors.errors import ClosedError, ModelLost, OperationCancelled, WaitTimeout, WrongPlace
from tinker_actors.flow.pending import PendingTable
from tinker_actors.ledger import Future, Tasks


@asynccontextmanager
async def open_tasks() -> AsyncGenerator[Tasks]:
    tasks: Tasks | None = None
    try:
        async with open_system("test", random=random.Random(1)) as system:
            tasks = Tasks(await system.start_child(TaskSupervisorSpec("tasks", grace=0.0)), PendingTable())
            yield tasks
    finally:
        assert tasks is not None
        tasks.close()


async def nine() -> int:
    await trio.lowlevel.checkpoint()
    return 9


async def test_a_call_goes_on_without_its_caller():
    async with open_tasks() as tasks:
        future = tasks.start("nine", nine)
        assert not future.done()
        assert [await future, await future] == [9, 9]
        assert not future.cancel()


async def test_its_error_goes_to_the_future_and_to_the_log(caplog: pytest.LogCaptureFixture):
    async def lost() -> Never:
        raise ModelLost("gone")

    async def broken() -> Never:
        raise ZeroDivisionError

    async with open_tasks() as tasks:
        for call, error in ((lost, ModelLost), (broken, ZeroDivisionError)):
            with pytest.raises(error):
                await tasks.start(call.__name__, call)
        assert await tasks.start("nine", nine) == 9
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "lost failed: gone"),
        (logging.ERROR, "broken failed"),
    ]


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "not yet begun"])
async def test_a_cancelled_call_undoes_what_it_has_begun_before_its_future_ends(begun: bool):
    undone: list[str] = []

    async def call() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
                undone.append("undone")

    async with open_tasks() as tasks:
        future = tasks.start("endless", call)
        if begun:
            await trio.testing.wait_all_tasks_blocked()
        assert future.cancel()
        with pytest.raises(OperationCancelled, match="endless was cancelled"):
            await future
        assert undone == ["undone"]
        assert tasks._pending.snapshot() == ()


async def test_a_wait_that_is_left_leaves_the_call_alone(autojump_clock: object):
    async def slow() -> int:
        await trio.sleep(10)
        return 1

    async with open_tasks() as tasks:
        future = tasks.start("slow", slow)
        with pytest.raises(WaitTimeout, match=r"no result after 2 s: slow task: running for 2.0 s"):
            await future.result(timeout=2)
        assert await future == 1


async def test_the_end_of_the_runtime_ends_all_waits(autojump_clock: object):
    async def endless(name: str) -> None:
        begun.append(name)
        await trio.sleep_forever()

    begun: list[str] = []
    futures: list[Future[None]] = []
    async with open_tasks() as tasks:
        futures.append(tasks.start("begun", lambda: endless("begun")))
        await trio.testing.wait_all_tasks_blocked()
        futures.append(tasks.start("never begun", lambda: endless("never begun")))
        await tasks._supervisor.stop_child("run-2")
    assert begun == ["begun"]
    for future in futures:
        with trio.fail_after(5), pytest.raises(ClosedError, match="given up: the runtime was closed"):
            await future
    with pytest.raises(ClosedError, match="was not started"):
        tasks.start("late", nine)
    assert tasks._pending.snapshot() == ()


async def test_a_call_from_elsewhere_is_refused():
    async with open_tasks() as tasks:
        with pytest.raises(WrongPlace):
            await trio.to_thread.run_sync(tasks.start, "nine", nine)
