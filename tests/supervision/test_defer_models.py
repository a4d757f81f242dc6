"""Deferred messages against a model, and cut at any step."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision import (
    ActorDown,
    ActorRef,
    Mailbox,
    SupervisionError,
    Undelivered,
)
from supervision.testing import InjectedFault, cancel_sweep, run_seeded
from tests.supervision.doors import Ask, Close, Knock, Open, door
from tests.supervision.world import Crash, Log, settle, system

operations = st.lists(
    st.one_of(
        st.tuples(st.just("knock"), st.booleans()),
        st.sampled_from([("open", False), ("close", False), ("crash", False), ("settle", False), ("stop", False)]),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(operations, st.sampled_from(["keep", "drop"]), st.integers(0, 2**32 - 1))
def test_defer_against_a_model(steps: list[tuple[str, bool]], on_restart: Any, seed: int) -> None:
    """What a sequential model handles, in its order; the rest is reported, once, in order."""

    async def run() -> None:
        log = Log()
        handled: list[int] = []
        lost: list[int] = []
        answered: list[int] = []
        async with system(log) as s:
            ref = await s.start_child(door(log, mailbox=Mailbox(capacity=100, on_restart=on_restart)))

            async def ask(n: int) -> None:
                try:
                    answered.append(await ref.call(Ask(n), math.inf))
                except ActorDown as error:
                    answered.append(-1000 if error.begun else -n)

            queue: deque[Any] = deque()
            aside: list[int] = []
            is_open = False

            def model() -> None:
                nonlocal is_open
                while queue:
                    item = queue.popleft()
                    if item == "crash":
                        is_open = False
                        if on_restart == "keep":
                            queue.extendleft(reversed(aside))
                        else:
                            lost.extend([*aside, *(left for left in queue if isinstance(left, int))])
                            queue.clear()
                        aside.clear()
                    elif item == "open":
                        is_open = True
                        queue.extendleft(reversed(aside))
                        aside.clear()
                    elif item == "close":
                        is_open = False
                    elif is_open:
                        handled.append(item)
                    else:
                        aside.append(item)

            asked: set[int] = set()
            async with trio.open_nursery() as nursery:
                for n, (kind, call) in enumerate(steps, start=1):
                    if call:
                        await settle()
                        model()
                    if kind == "knock":
                        if call:
                            asked.add(n)
                            nursery.start_soon(ask, n)
                        else:
                            ref.cast_nowait(Knock(n))
                        queue.append(n)
                    elif kind == "stop":
                        await settle()
                        model()
                        await s.restart_child("a")
                        queue.append("crash")
                        model()
                    elif kind == "settle":
                        await settle()
                    else:
                        ref.cast_nowait({"open": Open, "close": Close, "crash": Crash}[kind]())
                        queue.append(kind)
                    if call or kind == "settle":
                        # the model drops at a crash what is queued then: keep in step with the actor
                        await settle()
                        model()
                await settle()
                model()
                node = s.tree().find("t/a")
                assert node.set_aside == len(aside)
                assert ref.place.inbox.room == 100 - len(aside)
                await s.stop_child("a")
                lost.extend(aside)
        assert [line[1] for line in log.lines if line[0] in {"knock", "ask"}] == handled
        casts_lost = [event.message.n for event in log.seen(Undelivered) if isinstance(event.message, Knock)]
        assert casts_lost == [n for n in lost if n not in asked]
        assert sorted(answered) == sorted(-n if n in lost else n for n in asked)

    run_seeded(run, seed=seed)


class Deferring:
    """Casts and calls set aside, a crash, a replay; cut anywhere: accepted = handled + undelivered, calls end."""

    def __init__(self) -> None:
        self.log = Log()
        self.accepted: list[int] = []
        self.asked = self.answered = 0

    async def run(self) -> None:
        async with system(self.log) as s:
            self.s = s
            ref = await s.start_child(door(self.log, mailbox=Mailbox(capacity=6)))
            self.ref = ref
            async with trio.open_nursery() as nursery:
                for n in range(3):
                    ref.cast_nowait(Knock(n))
                    self.accepted.append(n)
                nursery.start_soon(self.ask, ref, 1.0)
                nursery.start_soon(self.ask, ref, 4.0)
                await trio.sleep(2)
                ref.cast_nowait(Crash())
                await trio.sleep(1)
                ref.cast_nowait(Open())

    async def ask(self, ref: ActorRef, timeout: float) -> None:
        self.asked += 1
        try:
            await ref.call(Ask(9), timeout)
        except SupervisionError:
            pass
        finally:
            self.answered += 1

    def check(self, error: BaseException | None) -> None:
        assert error is None or isinstance(error, InjectedFault)
        assert self.asked == self.answered
        handled = [line[0] for line in self.log.of("knock")]
        lost = [event.message.n for event in self.log.seen(Undelivered) if isinstance(event.message, Knock)]
        assert sorted(handled + lost) == self.accepted
        assert handled == sorted(handled)
        if hasattr(self, "ref"):
            inbox = self.ref.place.inbox
            assert (inbox.room, inbox.aside, inbox.count) == (6, None, 0)


def test_deferred_messages_are_conserved_at_every_step() -> None:
    assert cancel_sweep(Deferring, seeds=range(3)).runs > 100
