"""Invariants of messages (supervision/INVARIANTS.md), with random programs under random schedules."""

from __future__ import annotations

import contextlib
import math
import random
from collections import deque
from functools import partial
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision import (
    Actor,
    ActorRef,
    Call,
    Cast,
    ChildSpec,
    Down,
    Mailbox,
    StopReason,
    SupervisionError,
    Undelivered,
    handles,
)
from supervision.testing import run_seeded
from tests.supervision.world import NOW, Boom, Crash, Log, child, settle, system

seeds = st.integers(0, 2**32 - 1)
common = settings(deadline=None)  # examples: by profile


class Note(Cast, frozen=True):
    """Log it; take `nap` seconds over it; then crash, if so."""

    n: int
    nap: float = 0.0
    crash: bool = False


class Ask(Call[int], frozen=True):
    n: int
    nap: float = 0.0


class Task(Cast, frozen=True):
    """Begin a task that takes its time to end."""


class Recorder(Actor):
    """Logs when it begins and ends to do what."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def add(self, *line: object) -> None:
        self.log.add(self.context.name, self.context.incarnation, *line)

    async def init(self) -> None:
        self.add("init")

    async def terminate(self, reason: StopReason) -> None:
        self.add("terminate")
        await trio.sleep(0.1)
        self.add("terminated")

    @handles(Note)
    async def note(self, message: Note) -> None:
        self.add("begin", message.n)
        try:
            if message.nap:
                await trio.sleep(message.nap)
            if message.crash:
                raise Boom
        finally:
            self.add("end", message.n)

    @handles(Ask)
    async def ask(self, message: Ask) -> int:
        await self.note(Note(message.n, message.nap))
        return message.n

    @handles(Task)
    def task(self, message: Task) -> None:
        self.context.start_task(self.linger)

    async def linger(self) -> None:
        self.add("task")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.2)
            self.add("task ended")


senders = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["cast", "cast", "call", "crash", "task", "restart", "pause"]),
            st.sampled_from([0.0, 0.0, 0.3, 2.0]),
        ),
        max_size=10,
    ),
    min_size=1,
    max_size=3,
)


@common
@given(senders, st.sampled_from([0, 1, 3, math.inf]), seeds)
def test_an_actor_does_one_thing_at_a_time_in_order_and_nothing_twice(
    programs: list[list[tuple[str, float]]], capacity: float, seed: int
) -> None:
    """Per sender in order, each message once at most, one handler at a time, lives and their tasks one by one."""

    async def run() -> None:
        log = Log()
        async with system(log, max_restarts=10_000) as s:
            ref = await s.start_child(
                ChildSpec("a", partial(Recorder, log), backoff=NOW, mailbox=Mailbox(capacity=capacity))
            )

            async def send(sender: int, program: list[tuple[str, float]]) -> None:
                for i, (kind, number) in enumerate(program):
                    n = sender * 1000 + i
                    with contextlib.suppress(SupervisionError):
                        if kind == "pause":
                            await trio.sleep(number)
                        elif kind == "call":
                            await ref.call(Ask(n, number), timeout=1.0)
                        elif kind == "task":
                            await ref.cast(Task())
                        elif kind == "restart":
                            await s.restart_child("a")
                        else:
                            await ref.cast(Note(n, number, crash=kind == "crash"))

            async with trio.open_nursery() as nursery:
                for sender, program in enumerate(programs):
                    nursery.start_soon(send, sender, program)
            await trio.sleep(100)
            assert (ref.state, ref.place.inbox.count) == ("running", 0)
        begun = [line[2] for line in log.of("a") if line[1] == "begin"]
        assert len(begun) == len(set(begun))
        for sender in range(len(programs)):
            mine = [n for n in begun if n // 1000 == sender]
            assert mine == sorted(mine)
        check_one_at_a_time(log.of("a"))

    run_seeded(run, seed=seed)


def check_one_at_a_time(lines: list[tuple[Any, ...]]) -> None:
    """Of the lines of one Recorder."""
    life = tasks = 0
    hand: object = None
    for number, what, *rest in lines:
        if what == "init":
            assert (number, tasks, hand) == (life + 1, 0, None), f"{life} has not ended: {tasks} tasks, {hand}"
            life = number
            ended = False
            continue
        assert (number, ended) == (life, False)
        if what == "begin":
            assert hand is None
            (hand,) = rest
        elif what == "end":
            assert [hand] == rest
            hand = None
        elif what == "task":
            tasks += 1
        elif what == "task ended":
            tasks -= 1
        elif what == "terminate":
            assert (tasks, hand) == (0, None)
        else:
            ended = True
    assert ended


class MailboxModel:
    """Of a mailbox whose actor is busy: what is queued, and who stands in line."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.queue: deque[int] = deque()
        self.line: list[int] = []

    def send(self, n: int) -> None:
        self.line.append(n)
        self.admit()

    def admit(self) -> None:
        while self.line and len(self.queue) < self.capacity:
            self.queue.append(self.line.pop(0))

    def leave(self, n: int) -> bool:
        """Whether it had not been accepted."""
        if n in self.line:
            self.line.remove(n)
            return True
        return False

    def handle(self) -> int | None:
        taken = self.queue.popleft() if self.queue else None
        if not self.capacity and self.line:
            taken = self.line.pop(0)  # a rendezvous
        self.admit()
        return taken


class Gate(Actor):
    """Handles a message only when it gets a permit."""

    def __init__(self, log: Log, permits: trio.Semaphore) -> None:
        self.log = log
        self.permits = permits

    @handles(Note)
    async def note(self, message: Note) -> None:
        self.log.add("taken", message.n)
        await self.permits.acquire()


@common
@given(
    st.integers(0, 3),
    st.lists(st.sampled_from(["send", "send", "send", "leave", "handle"]), max_size=25),
    st.randoms(use_true_random=False),
    seeds,
)
def test_a_mailbox_against_a_model(capacity: int, ops: list[str], draw: random.Random, seed: int) -> None:
    """Never above its bound; who waits is served first come first served; who leaves the line was not accepted."""

    async def run() -> None:
        log = Log()
        permits = trio.Semaphore(0)
        model = MailboxModel(capacity)
        scopes: dict[int, trio.CancelScope] = {}
        accepted: list[int] = []
        async with system(log) as s, trio.open_nursery() as nursery:
            ref = await s.start_child(ChildSpec("g", lambda: Gate(log, permits), mailbox=Mailbox(capacity=capacity)))
            ref.cast_nowait(Note(-1))
            await settle()
            taken = [-1]

            async def send(n: int) -> None:
                with scopes[n]:
                    await ref.cast(Note(n))
                    accepted.append(n)

            for n, op in enumerate(ops):
                if op == "send":
                    scopes[n] = trio.CancelScope()
                    nursery.start_soon(send, n)
                    model.send(n)
                elif op == "leave" and scopes:
                    who = draw.choice(sorted(scopes))
                    scopes[who].cancel()
                    model.leave(who)
                elif op == "handle":
                    permits.release()
                    following = model.handle()
                    if following is not None:
                        taken.append(following)
                    else:
                        await settle()
                        ref.cast_nowait(Note(1000 + n))
                        taken.append(1000 + n)
                await settle()
                inbox = ref.place.inbox
                assert inbox.count <= capacity
                assert (inbox.count, inbox.waiting) == (len(model.queue), len(model.line))
                assert [line[0] for line in log.of("taken")] == taken
            known = {*taken, *model.queue}
            assert sorted(accepted) == sorted(n for n in known if 0 <= n < 1000)
            for _ in range(100):
                permits.release()
            await settle()
            everything = [*taken, *model.queue, *model.line]
            assert [line[0] for line in log.of("taken")] == everything

    run_seeded(run, seed=seed)


class Watcher(Recorder):
    def __init__(self, log: Log, others: list[ActorRef]) -> None:
        super().__init__(log)
        self.others = others

    async def init(self) -> None:
        for other in self.others:
            self.context.monitor(other)

    @handles(Down)
    def down(self, message: Down) -> None:
        self.add("down", message.path)


@common
@given(
    st.lists(st.one_of(st.integers(0, 3), st.just("note")), min_size=1, max_size=10),
    st.sampled_from(["wake", "stop"]),
    seeds,
)
def test_the_librarys_messages_come_first(ops: list[Any], end: str, seed: int) -> None:
    """While the actor is busy casts are queued, others end, and it may be told to stop: Down and stop come first."""

    async def run() -> None:
        log = Log()
        async with system(log) as s:
            peers = [await s.start_child(child(f"p{i}", restart="temporary")) for i in range(4)]
            ref = await s.start_child(ChildSpec("w", partial(Watcher, log, peers), backoff=NOW, shutdown=100))
            ref.cast_nowait(Note(-1, nap=50))
            await settle()
            notes: list[int] = []
            downs: list[str] = []
            for n, op in enumerate(ops):
                if op == "note":
                    ref.cast_nowait(Note(n))
                    notes.append(n)
                elif peers[op].place.closed is None:
                    peers[op].cast_nowait(Crash())
                    downs.append(peers[op].path)
                await settle()
            if end == "stop":
                await s.stop_child("w")
            await trio.sleep(100)
            handled = [line[1:] for line in log.of("w") if line[1] in {"down", "begin"}]
            if end == "stop":
                assert handled == [("begin", -1)]
            else:
                assert handled == [("begin", -1), *(("down", path) for path in downs), *(("begin", n) for n in notes)]

    run_seeded(run, seed=seed)


class Worker(Actor):
    """Logs what it has done to the end."""

    def __init__(self, log: Log) -> None:
        self.log = log

    @handles(Note)
    async def note(self, message: Note) -> None:
        if message.nap:
            await trio.sleep(message.nap)
        if message.crash:
            raise Boom
        self.log.add("done", message.n)


@common
@given(
    st.sampled_from(["wait", "reject", "drop_oldest"]),
    st.integers(0, 3),
    st.sampled_from(["keep", "drop"]),
    st.lists(
        st.tuples(st.sampled_from(["burst", "burst", "cast", "crash", "restart", "wait"]), st.integers(1, 5)),
        max_size=12,
    ),
    st.sampled_from(["close", "stop", "cancel"]),
    seeds,
)
def test_what_is_accepted_is_done_or_reported_once(
    policy: Any, capacity: int, on_restart: Any, ops: list[tuple[str, int]], end: str, seed: int
) -> None:
    """Whatever is dropped, cut off by a crash, a restart or a kill, or left in the mailbox at the end."""

    async def run() -> None:
        log = Log()
        accepted: list[int] = []
        with trio.CancelScope() as outer:
            async with system(log, max_restarts=10_000) as s, trio.open_nursery() as nursery:
                least = 1 if policy == "drop_oldest" else 0
                mailbox = Mailbox(capacity=max(least, capacity), when_full=policy, on_restart=on_restart)
                ref = await s.start_child(
                    ChildSpec("a", partial(Worker, log), backoff=NOW, mailbox=mailbox, shutdown=0.5)
                )

                async def cast(n: int, message: Note) -> None:
                    with contextlib.suppress(SupervisionError):
                        await ref.cast(message)
                        accepted.append(n)

                for i, (op, count) in enumerate(ops):
                    if op == "wait":
                        await trio.sleep(count)
                    elif op == "restart":
                        await s.restart_child("a")
                    elif op == "cast":
                        nursery.start_soon(cast, 100 * i, Note(100 * i, nap=count))
                    else:
                        for n in range(100 * i, 100 * i + count):
                            with contextlib.suppress(SupervisionError):
                                ref.cast_nowait(Note(n, crash=op == "crash"))
                                accepted.append(n)
                if end == "stop":
                    await s.stop_child("a")
                elif end == "cancel":
                    outer.cancel()
                nursery.cancel_scope.cancel()
        done = [line[0] for line in log.of("done")]
        reported = [event.message.n for event in log.seen(Undelivered)]
        assert sorted(done + reported) == sorted(accepted)

    run_seeded(run, seed=seed)
