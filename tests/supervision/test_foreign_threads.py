"""What comes from another thread than the system's is refused, and nothing is half done: nobody hangs for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio

from supervision import (
    Actor,
    ActorRef,
    ActorSystem,
    Call,
    ChildSpec,
    Reply,
    TaskSupervisor,
    TaskSupervisorSpec,
    WrongThread,
    handles,
)
from supervision.testing import run_seeded
from tests.supervision.world import Add, Counter, Get, child, settle, system


class Ask(Call[str], frozen=True):
    """Is answered from outside."""


class Owing(Counter):
    """Keeps the reply that it owes."""

    reply: Reply[str]

    @handles(Ask)
    def ask(self, message: Ask) -> None:
        self.reply = self.context.defer_reply()


def raised_in_a_thread(function: Callable[[], object]) -> BaseException | None:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return caught[0] if caught else None


def in_a_run_of_its_own(start: Callable[[], Any]) -> object:
    async def main() -> object:
        return await start()

    return trio.run(main)


async def nothing() -> None:
    """Nothing."""


Use = Callable[[Owing, ActorRef, ActorSystem, TaskSupervisor], object]

USES: dict[str, Use] = {
    "cast_nowait": lambda actor, ref, s, tasks: ref.cast_nowait(Add()),
    "cast": lambda actor, ref, s, tasks: in_a_run_of_its_own(lambda: ref.cast(Add())),
    "call": lambda actor, ref, s, tasks: in_a_run_of_its_own(lambda: ref.call(Get())),
    "send": lambda actor, ref, s, tasks: actor.reply.send("late"),
    "fail": lambda actor, ref, s, tasks: actor.reply.fail(ValueError()),
    "stop": lambda actor, ref, s, tasks: actor.context.stop(),
    "start_task": lambda actor, ref, s, tasks: actor.context.start_task(nothing),
    "send_after": lambda actor, ref, s, tasks: actor.context.send_after(0.1, Add()),
    "link": lambda actor, ref, s, tasks: actor.context.link(ref),
    "start_child": lambda actor, ref, s, tasks: in_a_run_of_its_own(lambda: s.start_child(child("new"))),
    "stop_child": lambda actor, ref, s, tasks: in_a_run_of_its_own(lambda: s.stop_child("other")),
    "restart_child": lambda actor, ref, s, tasks: in_a_run_of_its_own(lambda: s.restart_child("other")),
    "start_nowait": lambda actor, ref, s, tasks: tasks.start_nowait(nothing),
    "start": lambda actor, ref, s, tasks: in_a_run_of_its_own(lambda: tasks.start(nothing)),
}


@pytest.mark.parametrize("use", USES)
def test_another_thread_is_refused_and_nothing_is_changed(use: str) -> None:
    async def main() -> None:
        actors: list[Owing] = []

        def make() -> Owing:
            actors.append(Owing())
            return actors[-1]

        async with system() as s, trio.open_nursery() as nursery:
            owing = await s.start_child(ChildSpec("owing", make))
            other = await s.start_child(child("other"))
            tasks = await s.start_child(TaskSupervisorSpec("tasks"))
            answers: list[str] = []

            async def ask() -> None:
                answers.append(await owing.call(Ask()))

            nursery.start_soon(ask)
            await settle()
            before = str(s.tree())
            error = raised_in_a_thread(lambda: USES[use](actors[0], other, s, tasks))
            assert isinstance(error, WrongThread), error
            assert "another thread" in str(error)
            assert str(s.tree()) == before
            actors[0].reply.send("from its own")
            await settle()
            assert answers == ["from its own"]
            assert await other.call(Get()) == await owing.call(Get()) == 0
            assert len(actors) == 1

    run_seeded(main, seed=1, limit=1e4)


def test_a_worker_thread_asks_by_way_of_trio() -> None:
    class Working(Actor):
        def __init__(self, other: ActorRef) -> None:
            self.other = other

        def work(self) -> str:
            trio.from_thread.run_sync(self.other.cast_nowait, Add(3))
            return f"{trio.from_thread.run(self.other.call, Get())} there"

        @handles(Ask)
        async def ask(self, message: Ask) -> str:
            return await self.context.run_in_thread(self.work)

    async def main() -> None:
        async with system() as s:
            other = await s.start_child(child("other"))
            working = await s.start_child(ChildSpec("working", lambda: Working(other)))
            assert await working.call(Ask()) == "3 there"

    trio.run(main)
