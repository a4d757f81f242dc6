"""Gates on counters, which unlike times are the same on every machine: task steps, function calls, bytes."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

import pytest
import trio

from benchmarks import actors
from benchmarks.counters import Counters, Operations, count
from supervision import ActorRef, ActorSystem

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="the counters are gated for Python 3.11; another minor counts otherwise"
)


def gate(operations: Callable[[ActorSystem], Awaitable[Operations]], times: int) -> Counters:
    async def run() -> Counters:
        async with actors.open_measured() as system:
            return await count(await operations(system), times)

    return trio.run(run)


def of_one(operations: Callable[[ActorRef], Operations]) -> Callable[[ActorSystem], Awaitable[Operations]]:
    async def start(system: ActorSystem) -> Operations:
        return operations(await system.start_child(actors.plain("a")))

    return start


def test_call() -> None:
    counters = gate(of_one(lambda ref: actors.calls(ref, 5.0)), 1000)

    assert counters.steps <= 2.02
    assert counters.calls <= 105


def test_cast() -> None:
    counters = gate(of_one(actors.casts), 6400)

    assert counters.steps <= 0.03
    assert counters.calls <= 10


def test_crash_and_restart() -> None:
    counters = gate(of_one(actors.crashes), 300)

    assert counters.steps <= 3.1
    assert counters.calls <= 300


def test_start_child() -> None:
    async def operations(system: ActorSystem) -> Operations:
        return actors.start_children(await actors.start_supervisor(system, "d"))

    counters = gate(operations, 300)

    assert counters.steps <= 3
    assert counters.calls <= 320


def test_idle_actor() -> None:
    """Bytes that one started, parked actor holds, its spec apart."""
    assert trio.run(actors.idle_actor_bytes, 2000) <= 3200


def test_hibernated_actor() -> None:
    """Bytes that one actor holds whose task has ended for the time being, its spec apart."""
    assert trio.run(actors.hibernated_actor_bytes, 10_000) <= 800
