"""Work in threads, under the real clock: a virtual one doesn't know that a thread is at work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from supervision import Actor, ActorCrashed, ActorDown, ActorRef, ActorStuck, Call, ChildSpec, InvalidSpec, handles
from tests.supervision.world import NOW, Boom, Log, child, system


class Work(Call[str], frozen=True):
    """Do it in a thread, and say what it gave."""

    function: Callable[[], str]
    abandon: bool = False
    begin: Callable[[], object] = bool


class Works(Call[list[str]], frozen=True):
    """All at the same time, each in a task of one's own."""

    functions: list[Callable[[], str]]


class Worker(Actor):
    @handles(Work)
    async def work(self, message: Work) -> str:
        message.begin()
        return await self.context.run_in_thread(message.function, abandon=message.abandon)

    @handles(Works)
    async def works(self, message: Works) -> list[str]:
        results: list[str] = []

        async def one(function: Callable[[], str]) -> None:
            results.append(await self.context.run_in_thread(function))

        async with trio.open_nursery() as nursery:
            for function in message.functions:
                nursery.start_soon(one, function)
        return results


def worker(**options: Any) -> ChildSpec:
    return ChildSpec("a", Worker, backoff=NOW, **options)


class Gate:
    """A function for a thread that tells when it has begun, and waits to be let go."""

    def __init__(self) -> None:
        self.token = trio.lowlevel.current_trio_token()  # trio.from_thread refuses those that were abandoned
        self.begun = trio.Event()
        self.ended = trio.Event()
        self.released = threading.Event()

    def __call__(self) -> str:
        self.token.run_sync_soon(self.begun.set)
        assert self.released.wait(30), "never let go"
        self.token.run_sync_soon(self.ended.set)
        return "through"


def run(test: Callable[[], Any]) -> Callable[[], None]:
    """Within half a minute of real time."""

    async def bounded() -> None:
        with trio.fail_after(30):
            await test()

    def wrapper() -> None:
        trio.run(bounded)

    wrapper.__name__ = test.__name__
    return wrapper


async def ask(ref: ActorRef, message: Work, answers: list[object]) -> None:
    try:
        answers.append(await ref.call(message, timeout=30))
    except ActorDown as down:
        answers.append(down)


@run
async def test_the_loop_is_free_and_the_value_comes_back() -> None:
    gate, answers = Gate(), list[object]()
    async with system() as s:
        a = await s.start_child(worker())
        other = await s.start_child(ChildSpec("b", Worker))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, a, Work(gate), answers)
            await gate.begun.wait()
            assert await other.call(Work(lambda: threading.current_thread().name)) == "t/b#1"
            assert a.statistics().threads == 1
            assert "; threads 1" in str(s.tree())
            assert answers == []
            gate.released.set()
        assert answers == ["through"]
        assert a.statistics().threads == 0


@run
async def test_what_it_raises_is_raised_in_the_handler() -> None:
    log = Log()

    def trip() -> str:
        raise Boom("in a thread")

    async with system(log) as s:
        a = await s.start_child(worker())
        with pytest.raises(ActorDown):
            await a.call(Work(trip))
        assert await a.call(Work(lambda: "next")) == "next"
    (crash,) = log.seen(ActorCrashed)
    assert "Boom: in a thread" in crash.crash.text


@pytest.mark.parametrize("threads", [1, 3])
def test_so_many_at_a_time_and_no_more(threads: int) -> None:
    lock = threading.Lock()
    now = most = 0
    full = threading.Barrier(threads)

    def work() -> str:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        full.wait(10)  # that many do run at the same time, or this breaks
        with lock:
            now -= 1
        return "done"

    @run
    async def test() -> None:
        async with system() as s:
            a = await s.start_child(worker(threads=threads))
            assert await a.call(Works([work] * (3 * threads)), timeout=25) == ["done"] * (3 * threads)

    test()
    assert most == threads


@run
async def test_a_thread_left_behind_takes_its_room_in_the_next_incarnation_too() -> None:
    left, answers, begun = Gate(), list[object](), list[str]()
    in_hand = trio.Event()

    def let_go(event: object) -> None:
        if isinstance(event, ActorStuck):  # it has not left it behind
            left.released.set()

    async with system() as s:
        s.events.subscribe(let_go)
        a = await s.start_child(worker(shutdown=0.0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, a, Work(left, abandon=True), answers)
            await left.begun.wait()
            await s.restart_child("a")  # cancels the handler at once; the thread goes on
        assert not left.ended.is_set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, a, Work(lambda: begun.append("begun") or "followed", begin=in_hand.set), answers)
            await in_hand.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert (begun, a.statistics().incarnation, a.statistics().threads) == ([], 2, 1)
            left.released.set()
    assert isinstance(answers[0], ActorDown)
    assert answers[1:] == ["followed"]


@run
async def test_who_waits_for_a_thread_is_cancelled_there() -> None:
    left, answers, ran = Gate(), list[object](), list[str]()
    in_hand = trio.Event()
    async with system() as s, trio.open_nursery() as nursery:
        a = await s.start_child(worker(shutdown=0.0))
        nursery.start_soon(ask, a, Work(left, abandon=True), answers)
        await left.begun.wait()
        await s.restart_child("a")
        nursery.start_soon(ask, a, Work(lambda: ran.append("ran") or "ran", begin=in_hand.set), answers)
        await in_hand.wait()
        await s.stop_child("a")  # does not wait for the thread of the first incarnation
        assert not left.ended.is_set()
        left.released.set()
        await left.ended.wait()
    assert ran == []
    assert [type(answer) for answer in answers] == [ActorDown, ActorDown]


@run
async def test_who_does_not_abandon_is_reported_and_waited_for() -> None:
    log, gate, answers = Log(), Gate(), list[object]()

    def let_go(event: object) -> None:
        if isinstance(event, ActorStuck):
            gate.released.set()

    async with system(log) as s, trio.open_nursery() as nursery:
        s.events.subscribe(let_go)
        a = await s.start_child(worker(shutdown=0.02))
        await s.start_child(child("b", log))
        nursery.start_soon(ask, a, Work(gate), answers)
        await gate.begun.wait()
        await s.stop_child("a")
        assert gate.released.is_set()
    (stuck,) = log.seen(ActorStuck)
    assert stuck.path == "t/a"
    assert any(line.endswith("Worker.work") for line in stuck.stack)


@run
async def test_terminate_may_use_one() -> None:
    closed: list[str] = []

    class Closing(Actor):
        async def terminate(self, reason: object) -> None:
            await self.context.run_in_thread(closed.append, "closed")

    async with system() as s:
        await s.start_child(ChildSpec("a", Closing))
    assert closed == ["closed"]


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, None])
def test_a_number_of_threads_that_is_none(threads: Any) -> None:
    with pytest.raises(InvalidSpec, match="ChildSpec 'a': threads must be a whole number from 1, got "):
        worker(threads=threads)
