"""ChildSpec.on_undelivered: nothing that was accepted vanishes silently."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest
import trio

from supervision import (
    ActorStopped,
    Cast,
    ChildSpec,
    InvalidSpec,
    ListenerFailed,
    Mailbox,
    StateMachine,
    Undelivered,
    handles,
    in_state,
)
from supervision.testing import InjectedFault, cancel_sweep
from tests.supervision.world import NOW, Add, Boom, Counter, Crash, Get, Log, Nap, child, seeded, settle, system


class Poison(Cast, frozen=True):
    redeliver: ClassVar[int] = 1


class Victim(Counter):
    @handles(Poison)
    def poison(self, message: Poison) -> None:
        raise Boom


class Machine(StateMachine[str]):
    initial = "shut"
    states = ("shut", "open")

    @in_state("open")
    @handles(Add)
    def add(self, message: Add) -> None: ...


class Book:
    """What the hook was told."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, object, str]] = []

    def note(self, path: str, message: object, why: str) -> None:
        self.entries.append((path, message, why))


@seeded()
async def test_the_hook_hears_of_every_reason() -> None:
    book, log = Book(), Log()
    async with system(log) as s:
        dropping = Mailbox(capacity=1, when_full="drop_oldest", on_restart="drop")
        a = await s.start_child(child("a", mailbox=dropping, on_undelivered=book.note))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.call, Nap(1.0))
            await settle()
            for n in (1, 2):
                a.cast_nowait(Add(n))
        await settle()
        assert book.entries == [("t/a", Add(1), "dropped")]
        a.cast_nowait(Crash())
        await settle()
        b = await s.start_child(ChildSpec("b", Victim, backoff=NOW, on_undelivered=book.note))
        b.cast_nowait(Poison())
        await settle()
        m = await s.start_child(ChildSpec("m", Machine, on_undelivered=book.note))
        m.cast_nowait(Add(3))
        await settle()
        assert book.entries[1:] == [
            ("t/a", Crash(), "in_hand"),
            ("t/b", Poison(), "dead_letter"),
            ("t/m", Add(3), "not_in_state"),
        ]
        # At the close: what is queued. Who waits in line was not accepted, and hears of it by an error.
        c = await s.start_child(child("c", mailbox=Mailbox(capacity=1), shutdown=50.0, on_undelivered=book.note))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(c.call, Nap(1.0), math.inf)
            await settle()
            c.cast_nowait(Add(4))

            async def refused() -> None:
                with pytest.raises(ActorStopped):
                    await c.cast(Add(5))

            nursery.start_soon(refused)
            await settle()
            await s.stop_child("c")
        assert book.entries[4:] == [("t/c", Add(4), "closed")]
    # Beside the events, each once.
    assert [(event.path, event.message, event.why) for event in log.seen(Undelivered)] == book.entries


@seeded()
async def test_what_the_hook_raises_is_reported_and_stops_nothing() -> None:
    told: list[object] = []

    def fail(path: str, message: object, why: str) -> None:
        told.append(message)
        raise Boom

    log = Log()
    async with system(log) as s:
        ref = await s.start_child(child("a", log, on_undelivered=fail))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.call, Nap(1.0))
            await settle()
            for n in (1, 2):
                ref.cast_nowait(Add(n))
            await s.stop_child("a")
        await s.restart_child("a")
        ref.cast_nowait(Crash())
        await settle()
        assert await ref.call(Get()) == 0
    assert told == [Add(1), Add(2), Crash()]
    assert [(event.path, type(event.error)) for event in log.seen(ListenerFailed)] == [("t/a", Boom)] * 3


@seeded(seeds=1)
async def test_a_hook_that_can_not_be_called() -> None:
    bad: Any = "log it"
    with pytest.raises(InvalidSpec, match="ChildSpec 'a': on_undelivered must be callable, or None, got 'log it'"):
        child("a", on_undelivered=bad)


class Losing:
    """Casts, crashes and a stop, with nobody but the hook to listen."""

    def __init__(self) -> None:
        self.log = Log()
        self.book = Book()
        self.accepted: list[int] = []

    async def run(self) -> None:
        async with system() as s:
            ref = await s.start_child(child("a", self.log, on_undelivered=self.book.note))
            for n in range(6):
                ref.cast_nowait(Add(n))
                self.accepted.append(n)
                if n in {1, 3}:
                    ref.cast_nowait(Crash())
                await trio.lowlevel.checkpoint()
            await s.stop_child("a")

    def check(self, error: BaseException | None) -> None:
        assert error is None or isinstance(error, InjectedFault)
        handled = [line[1] for line in self.log.of("add")]
        lost = [message.n for _, message, _ in self.book.entries if isinstance(message, Add)]
        assert sorted(handled + lost) == self.accepted


def test_the_hook_cut_at_any_step() -> None:
    assert cancel_sweep(Losing, seeds=range(5)).runs > 50
