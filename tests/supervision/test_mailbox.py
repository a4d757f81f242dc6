"""Bounds, policies, lanes, and what becomes of messages."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import trio

from supervision import (
    Actor,
    ActorStopped,
    Cast,
    ChildSpec,
    Down,
    InvalidSpec,
    Mailbox,
    MailboxFull,
    Undelivered,
    UnknownMessage,
    handles,
)
from tests.supervision.world import NOW, Add, Boom, Crash, Get, Log, Nap, child, seeded, settle, system


@seeded()
async def test_a_full_mailbox_makes_senders_wait_in_order() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(child("a", log, mailbox=Mailbox(capacity=2)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.call, Nap(5.0), math.inf)
            await settle()
            for n in (1, 2):
                await ref.cast(Add(n))
            sent: list[int] = []

            async def send(n: int) -> None:
                await ref.cast(Add(n))
                sent.append(n)

            for n in (3, 4, 5):
                nursery.start_soon(send, n)
                await settle()
            assert sent == []
            node = s.tree().find("t/a")
            assert (node.queued, node.blocked) == (2, 3)
            with pytest.raises(MailboxFull, match=r"capacity 2\), not accepted"):
                ref.cast_nowait(Add(9))
        assert sorted(sent) == [3, 4, 5]
        await settle()
        assert [line[1] for line in log.of("add")] == [1, 2, 3, 4, 5]


@seeded()
async def test_casts_from_several_senders_wake_an_idle_actor_once() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(child("a", log))
        for times in (1, 3):
            async with trio.open_nursery() as nursery:
                for n in range(times):
                    nursery.start_soon(ref.cast, Add(n))
            await settle()
        assert sorted(line[1] for line in log.of("add")) == [0, 0, 1, 2]
        assert ref.state == "running"


@seeded()
async def test_a_cancelled_sender_was_not_accepted() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(child("a", log, mailbox=Mailbox(capacity=1)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.call, Nap(5.0), math.inf)
            await settle()
            await ref.cast(Add(1))
            with trio.move_on_after(1) as scope:
                await ref.cast(Add(2))
            assert scope.cancelled_caught
            with trio.move_on_after(1) as scope:
                await ref.call(Get())
            assert scope.cancelled_caught
        await settle()
        assert [line[1] for line in log.of("add")] == [1]


@seeded()
async def test_a_cast_that_is_cancelled_without_waiting_was_not_accepted() -> None:
    """At its checkpoint once in 128, and where the oldest is dropped for it."""
    log = Log()
    async with system(log) as s:
        plain = await s.start_child(child("plain", log))
        dropping = await s.start_child(child("dropping", log, mailbox=Mailbox(capacity=1, when_full="drop_oldest")))
        for ref in (plain, dropping):
            accepted: list[int] = []
            with trio.CancelScope() as scope:
                scope.cancel()
                for n in range(300):
                    await ref.cast(Add(n))
                    accepted.append(n)
            assert scope.cancelled_caught
            assert ref.place.inbox.accepted == len(accepted) <= 128
            await ref.call(Get())
            lost = [event.message.n for event in log.seen(Undelivered) if event.path == ref.path]
            assert sorted([*(line[1] for line in log.of("add") if line[0] == ref.name), *lost]) == accepted


@seeded()
async def test_withdrawn_calls_make_room() -> None:
    async with system() as s:
        ref = await s.start_child(child("a", mailbox=Mailbox(capacity=1)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.call, Nap(50.0), math.inf)
            await settle()
            sent: list[float] = []

            async def send() -> None:
                await ref.cast(Add())
                sent.append(trio.current_time())

            with trio.move_on_after(1):
                async with trio.open_nursery() as inner:
                    inner.start_soon(ref.call, Get())
                    await settle()
                    nursery.start_soon(send)
                    await trio.sleep_forever()
            await settle()
            assert len(sent) == 1


@seeded()
async def test_reject_and_drop_oldest() -> None:
    log = Log()
    async with system(log) as s:
        rejecting = await s.start_child(child("r", log, mailbox=Mailbox(capacity=1, when_full="reject")))
        dropping = await s.start_child(child("d", log, mailbox=Mailbox(capacity=2, when_full="drop_oldest")))
        async with trio.open_nursery() as nursery:
            for ref in (rejecting, dropping):
                nursery.start_soon(ref.call, Nap(5.0), math.inf)
            await settle()
            await rejecting.cast(Add(1))
            with pytest.raises(MailboxFull):
                await rejecting.cast(Add(2))
            with pytest.raises(MailboxFull):
                await rejecting.call(Get())
            dropped: list[MailboxFull] = []

            async def ask() -> None:
                with pytest.raises(MailboxFull, match="dropped to make room") as caught:
                    await dropping.call(Get())
                dropped.append(caught.value)

            nursery.start_soon(ask)
            await settle()
            for n in (1, 2, 3):
                dropping.cast_nowait(Add(n))
        await settle()
        assert len(dropped) == 1
        assert [line[1] for line in log.of("add") if line[0] == "d"] == [2, 3]
        lost = log.seen(Undelivered)
        assert [(event.path, event.message, event.why) for event in lost] == [("t/d", Add(1), "dropped")]


@seeded()
async def test_the_mailbox_is_kept_on_restart_or_dropped() -> None:
    log = Log()
    async with system(log) as s:
        keep = await s.start_child(child("k", log))
        drop = await s.start_child(child("d", log, mailbox=Mailbox(on_restart="drop")))
        for ref in (keep, drop):
            ref.cast_nowait(Add(1))
            ref.cast_nowait(Crash())
            ref.cast_nowait(Add(2))
        await settle()
        assert sorted(log.of("add")) == [("d", 1), ("k", 1), ("k", 2)]
        lost = {(event.path, type(event.message).__name__, event.why) for event in log.seen(Undelivered)}
        assert lost == {("t/k", "Crash", "in_hand"), ("t/d", "Crash", "in_hand"), ("t/d", "Add", "dropped")}


@seeded()
async def test_what_is_queued_when_a_place_closes_is_reported() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(child("a", log, mailbox=Mailbox(capacity=2)))
        refused: list[str] = []
        async with trio.open_nursery() as nursery:

            async def nap() -> None:
                await ref.call(Nap(1.0), math.inf)

            async def send() -> None:
                try:
                    await ref.cast(Add(3))
                except ActorStopped:
                    refused.append("cast")

            nursery.start_soon(nap)
            await settle()
            ref.cast_nowait(Add(1))
            ref.cast_nowait(Add(2))
            nursery.start_soon(send)
            await settle()
            await s.stop_child("a")
        assert [(event.message, event.why) for event in log.seen(Undelivered)] == [
            (Add(1), "closed"),
            (Add(2), "closed"),
        ]
        assert s.statistics().undelivered == 2
        assert refused == ["cast"]


class Poison(Cast, frozen=True):
    redeliver: ClassVar[int] = 2


class Victim(Actor):
    def __init__(self, tries: list[int]) -> None:
        self.tries = tries

    @handles(Poison)
    def poison(self, message: Poison) -> None:
        self.tries.append(self.context.incarnation)
        raise Boom


@seeded()
async def test_redelivery_is_opt_in_and_bounded() -> None:
    log = Log()
    tries: list[int] = []
    async with system(log) as s:
        ref = await s.start_child(ChildSpec("a", lambda: Victim(tries), backoff=NOW))
        await ref.cast(Poison())
        await settle()
        assert tries == [1, 2, 3]
        assert [event.why for event in log.seen(Undelivered)] == ["dead_letter"]


class Watcher(Actor):
    def __init__(self, log: Log) -> None:
        self.log = log

    @handles(Down)
    def down(self, message: Down) -> None:
        self.log.add("down", message.path)

    @handles(Add)
    def add(self, message: Add) -> None:
        self.log.add("add", message.n)

    @handles(Nap)
    async def nap(self, message: Nap) -> str:
        await trio.sleep(message.seconds)
        return "rested"


@seeded()
async def test_system_messages_overtake() -> None:
    log = Log()
    async with system(log) as s:
        other = await s.start_child(child("other", log, restart="temporary"))

        class Monitoring(Watcher):
            async def init(self) -> None:
                self.context.monitor(other)

        ref = await s.start_child(ChildSpec("w", lambda: Monitoring(log)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.call, Nap(1.0))
            await settle()
            ref.cast_nowait(Add(1))
            other.cast_nowait(Crash())
        await settle()
        assert [line for line in log.lines if line[0] in {"down", "add"}] == [("down", "t/other"), ("add", 1)]


@seeded()
async def test_a_subclass_of_a_message_reaches_its_bases_handler() -> None:
    class AddTwice(Add, frozen=True):
        pass

    class Unheard(Cast, frozen=True):
        pass

    log = Log()
    async with system(log) as s:
        ref = await s.start_child(child("a", log))
        await ref.cast(AddTwice(4))
        assert await ref.call(Get()) == 4
        with pytest.raises(UnknownMessage):
            await ref.cast(Unheard())


def test_bad_mailboxes() -> None:
    for capacity in (-1, 0.5, 1.5, math.nan):
        with pytest.raises(InvalidSpec, match="capacity"):
            Mailbox(capacity=capacity)
    with pytest.raises(InvalidSpec, match="when_full"):
        Mailbox(when_full="explode")  # type: ignore[arg-type]
    with pytest.raises(InvalidSpec, match="on_restart"):
        Mailbox(on_restart="burn")  # type: ignore[arg-type]
