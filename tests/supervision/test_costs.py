"""Gates on counters, which unlike times are the same on every machine: task steps, function calls, bytes."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from types import FrameType

import pytest
import trio

from supervision import Actor, ActorRef, ChildSpec, DynamicSupervisorSpec, handles
from tests.supervision.world import NOW, Add, Boom, Crash, Get, system

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="the counters are gated for Python 3.11; another minor counts otherwise"
)


class Plain(Actor):
    def __init__(self) -> None:
        self.n = 0

    @handles(Get)
    def get(self, message: Get) -> int:
        return self.n

    @handles(Add)
    def add(self, message: Add) -> None:
        self.n += message.n

    @handles(Crash)
    def crash(self, message: Crash) -> None:
        raise Boom


class Steps(trio.abc.Instrument):
    def __init__(self) -> None:
        self.count = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def measure(operations: Callable[[int], Awaitable[None]], times: int) -> tuple[float, float]:
    """(steps, calls) per operation."""
    await operations(20)
    gc.collect()
    gc.disable()
    try:
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        await operations(times)
        trio.lowlevel.remove_instrument(steps)
        calls = 0

        def count(frame: FrameType, event: str, argument: object) -> None:
            nonlocal calls
            if event in {"call", "c_call"}:
                calls += 1

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            await operations(times)
        finally:
            sys.setprofile(before)
    finally:
        gc.enable()
    return steps.count / times, calls / times


def gate(operations: Callable[[ActorRef], Callable[[int], Awaitable[None]]], times: int) -> tuple[float, float]:
    async def run() -> tuple[float, float]:
        async with system(max_restarts=10**6) as s:
            ref = await s.start_child(ChildSpec("a", Plain, backoff=NOW))
            return await measure(operations(ref), times)

    return trio.run(run)


def test_call() -> None:
    def operations(ref: ActorRef) -> Callable[[int], Awaitable[None]]:
        async def run(times: int) -> None:
            for _ in range(times):
                await ref.call(Get(), timeout=5.0)

        return run

    steps, calls = gate(operations, 1000)
    assert steps <= 2.02
    assert calls <= 105


def test_cast() -> None:
    def operations(ref: ActorRef) -> Callable[[int], Awaitable[None]]:
        async def run(times: int) -> None:
            for _ in range(times):
                await ref.cast(Add())
            await ref.call(Get())

        return run

    steps, calls = gate(operations, 6400)
    assert steps <= 0.03
    assert calls <= 10


def test_crash_and_restart() -> None:
    def operations(ref: ActorRef) -> Callable[[int], Awaitable[None]]:
        async def run(times: int) -> None:
            for _ in range(times):
                await ref.cast(Crash())
                await ref.call(Get())

        return run

    steps, calls = gate(operations, 300)
    assert steps <= 3.1
    assert calls <= 300


def test_start_child() -> None:
    async def run() -> tuple[float, float]:
        async with system() as s:
            d = await s.start_child(DynamicSupervisorSpec("d"))
            number = 0

            async def operations(times: int) -> None:
                nonlocal number
                for _ in range(times):
                    number += 1
                    await d.start_child(ChildSpec(f"c{number}", Plain))

            return await measure(operations, 300)

    steps, calls = trio.run(run)
    assert steps <= 3
    assert calls <= 320


def test_idle_actor() -> None:
    """Bytes that one started, parked actor holds, its spec apart."""

    async def run() -> float:
        async with system() as s:
            d = await s.start_child(DynamicSupervisorSpec("d"))
            await d.start_child(ChildSpec("warm", Plain))
            specs = [ChildSpec(f"c{i}", Plain) for i in range(2000)]
            gc.collect()
            tracemalloc.start()
            try:
                for spec in specs:
                    await d.start_child(spec)
                gc.collect()
                return tracemalloc.get_traced_memory()[0] / len(specs)
            finally:
                tracemalloc.stop()

    assert trio.run(run) <= 3200
