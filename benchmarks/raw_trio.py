"""What trio itself costs: the same jobs as an actor's, by hand and without an actor's guarantees."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import outcome
import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, current_task, reschedule, wait_task_rescheduled

from benchmarks.counters import Operations, many_objects

__all__ = ["one_way", "parked", "ping_pong", "restart", "send_nowait", "start_stop", "start_task"]

_Ends: TypeAlias = tuple[trio.MemorySendChannel[bool], trio.MemoryReceiveChannel[int]]


class _Crash(Exception):
    """What the child dies of."""


@asynccontextmanager
async def ping_pong() -> AsyncGenerator[Operations]:
    """Round trips over two channels without buffer."""
    to_echo, from_caller = trio.open_memory_channel[int](0)
    to_caller, from_echo = trio.open_memory_channel[int](0)

    async def echo() -> None:
        async for value in from_caller:
            await to_caller.send(value)

    async def run(times: int) -> None:
        for number in range(times):
            await to_echo.send(number)
            await from_echo.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo)
        yield run
        await to_echo.aclose()


@asynccontextmanager
async def parked() -> AsyncGenerator[Operations]:
    """Two tasks that wake each other. No round trip between two tasks can do with less: this is the floor."""

    def abort(_: RaiseCancelT) -> Abort:
        return Abort.SUCCEEDED

    async def echo(task_status: trio.TaskStatus[Task]) -> None:
        task_status.started(current_task())
        while True:
            reschedule(await wait_task_rescheduled(abort))

    async def run(times: int) -> None:
        task = current_task()
        for _ in range(times):
            reschedule(echoing, outcome.Value(task))
            await wait_task_rescheduled(abort)

    async with trio.open_nursery() as nursery:
        echoing: Task = await nursery.start(echo)
        yield run
        nursery.cancel_scope.cancel(reason="measured")


@asynccontextmanager
async def one_way(size: float = 1000) -> AsyncGenerator[Operations]:
    """Messages one way through a channel that holds ``size``, received one by one; the last is waited for."""
    sending, receiving = trio.open_memory_channel[int](size)
    arrived = trio.Event()

    async def receive() -> None:
        async for left in receiving:
            if left == 0:
                arrived.set()

    async def run(times: int) -> None:
        nonlocal arrived
        arrived = trio.Event()
        if size == math.inf:
            for left in reversed(range(times)):
                sending.send_nowait(left)
        else:
            for left in reversed(range(times)):
                await sending.send(left)
        await arrived.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        yield run
        await sending.aclose()


def send_nowait() -> AbstractAsyncContextManager[Operations]:
    """Messages one way, sent without waiting into an endless channel and received one by one."""
    return one_way(math.inf)


@asynccontextmanager
async def start_task() -> AsyncGenerator[Operations]:
    """Tasks started with nursery.start, each waited for until it has begun; they live on until the end."""

    async def child(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def run(times: int) -> None:
        for _ in range(times):
            await nursery.start(child)

    async with trio.open_nursery() as nursery:
        yield run
        nursery.cancel_scope.cancel(reason="measured")


async def restart(times: int) -> None:
    """A child in a nursery of its own crashes on demand; the next one is started and has answered."""

    async def child(task_status: trio.TaskStatus[_Ends]) -> None:
        to_child, from_parent = trio.open_memory_channel[bool](0)
        to_parent, from_child = trio.open_memory_channel[int](1)
        task_status.started((to_child, from_child))
        async for crash in from_parent:
            if crash:
                raise _Crash
            await to_parent.send(0)

    crashes = 0
    for _ in range(times):
        try:
            async with trio.open_nursery() as nursery:
                to_child, from_child = await nursery.start(child)
                await to_child.send(False)
                await from_child.receive()
                await to_child.send(True)
        except* _Crash:
            crashes += 1
    assert crashes == times


async def start_stop(count: int) -> tuple[float, float]:
    """Seconds to start ``count`` tasks with ``nursery.start()``, and to cancel them all."""
    with many_objects():
        async with trio.open_nursery() as nursery:
            begun = time.perf_counter()
            for _ in range(count):
                await nursery.start(_wait)
            started = time.perf_counter()
            nursery.cancel_scope.cancel()
        return started - begun, time.perf_counter() - started


async def _wait(task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()
