"""The actor that is measured, and what is done with it."""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import final

import trio

from benchmarks.counters import Operations, many_objects
from supervision import (
    Actor,
    ActorRef,
    ActorSystem,
    Backoff,
    Call,
    Cast,
    ChildSpec,
    DynamicSupervisorSpec,
    Mailbox,
    SupervisorRef,
    handles,
    open_system,
)

__all__ = [
    "Get",
    "calls",
    "casts",
    "crashes",
    "hibernated_actor_bytes",
    "idle_actor_bytes",
    "many_callers",
    "open_measured",
    "plain",
    "start_children",
    "start_stop",
    "start_supervisor",
]

_AT_ONCE = Backoff(initial=0.0, maximum=0.0)
_ENDLESS = 10**9


class _Boom(Exception):
    """What the actor crashes with."""


class Get(Call[int], frozen=True):
    """The counter's value."""


class _Add(Cast, frozen=True):
    n: int = 1


class _Crash(Cast, frozen=True):
    """Crash."""


@final
class _Plain(Actor):
    def __init__(self) -> None:
        self.n = 0

    @handles(Get)
    def get(self, message: Get) -> int:
        return self.n

    @handles(_Add)
    def add(self, message: _Add) -> None:
        self.n += message.n

    @handles(_Crash)
    def crash(self, message: _Crash) -> None:
        raise _Boom


@asynccontextmanager
async def open_measured() -> AsyncGenerator[ActorSystem]:
    """A system in which any number of crashes is forgiven."""
    async with open_system("t", random=random.Random(0), max_restarts=_ENDLESS, max_seconds=1.0) as system:
        yield system


def plain(name: str, *, capacity: float = 1000, hibernate_after: float | None = None) -> ChildSpec:
    """An actor that holds a number; after a crash it is restarted at once."""
    mailbox = Mailbox(capacity=capacity)
    return ChildSpec(name, _Plain, backoff=_AT_ONCE, mailbox=mailbox, hibernate_after=hibernate_after)


def calls(ref: ActorRef, timeout: float) -> Operations:
    """Calls one after another."""

    async def run(times: int) -> None:
        for _ in range(times):
            await ref.call(Get(), timeout=timeout)

    return run


def many_callers(ref: ActorRef, callers: int) -> Operations:
    """Calls by ``callers`` tasks at once, with the default timeout."""

    async def caller(times: int) -> None:
        for _ in range(times):
            await ref.call(Get())

    async def run(times: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(callers):
                nursery.start_soon(caller, max(times // callers, 1))

    return run


def casts(ref: ActorRef) -> Operations:
    """Casts; a call at the end says that all were handled."""

    async def run(times: int) -> None:
        for _ in range(times):
            await ref.cast(_Add())
        await ref.call(Get(), timeout=60.0)

    return run


def crashes(ref: ActorRef) -> Operations:
    """A cast that crashes the actor, then a call that its next incarnation answers."""

    async def run(times: int) -> None:
        for _ in range(times):
            await ref.cast(_Crash())
            await ref.call(Get())

    return run


async def start_supervisor(system: ActorSystem, name: str) -> SupervisorRef:
    """A supervisor of children that come and go."""
    return await system.start_child(DynamicSupervisorSpec(name))


def start_children(supervisor: SupervisorRef) -> Operations:
    """Children started one after another, each until its init() has returned; they live on."""
    number = 0

    async def run(times: int) -> None:
        nonlocal number
        for _ in range(times):
            number += 1
            await supervisor.start_child(plain(f"child{number}"))

    return run


async def idle_actor_bytes(count: int) -> float:
    """Bytes that one started, parked actor holds, its spec apart, by tracemalloc. Its path is a short one."""
    return await _bytes(count, None)


async def hibernated_actor_bytes(count: int) -> float:
    """As idle_actor_bytes, of actors that hibernate, each as soon as it has paused for a moment."""
    return await _bytes(count, 0.001)


async def _bytes(count: int, hibernate_after: float | None) -> float:
    async with open_measured() as system:
        supervisor = await start_supervisor(system, "d")
        await supervisor.start_child(plain("warm", hibernate_after=hibernate_after))
        specs = [plain(f"c{number}", hibernate_after=hibernate_after) for number in range(count)]
        gc.collect()
        tracemalloc.start()
        try:
            for spec in specs:
                await supervisor.start_child(spec)
            while hibernate_after is not None and system.statistics().hibernated <= count:  # noqa: ASYNC110  # no event
                await trio.sleep(hibernate_after)
            gc.collect()
            return tracemalloc.get_traced_memory()[0] / count
        finally:
            tracemalloc.stop()


async def start_stop(count: int) -> tuple[float, float]:
    """Seconds to start ``count`` actors, and to stop them all in order."""
    with many_objects():
        async with open_measured() as system:
            supervisor = await start_supervisor(system, "children")
            begun = time.perf_counter()
            await start_children(supervisor)(count)
            started = time.perf_counter()
            await system.stop_child("children")
            return started - begun, time.perf_counter() - started
