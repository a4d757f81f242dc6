"""Supervised tasks that would wait for themselves: for room, over calls and results."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from supervision import (
    Actor,
    ActorDown,
    Call,
    CallCycle,
    ChildSpec,
    SupervisedTask,
    TaskSupervisor,
    handles,
)
from tests.supervision.task_functions import nap, supervisor
from tests.supervision.world import seeded, system

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
