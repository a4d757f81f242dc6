"""defer(): messages set aside until the actor wants them, and what becomes of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio

from supervision import (
    Actor,
    ActorDown,
    CallCycle,
    CallTimeout,
    CannotDefer,
    ChildSpec,
    Mailbox,
    MailboxFull,
    NotInCall,
    Undelivered,
    handles,
)
from tests.supervision.doors import Again, Ask, Close, Do, Door, Knock, Open, door
from tests.supervision.world import NOW, Crash, Log, seeded, settle, system


@seeded()
async def test_deferred_messages_come_back_in_front_in_order() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(door(log))
        answers: list[int] = []

        async def ask(n: int) -> None:
            answers.append(await ref.call(Ask(n)))

        async with trio.open_nursery() as nursery:
            ref.cast_nowait(Knock(1))
            nursery.start_soon(ask, 2)
            await settle()
            ref.cast_nowait(Knock(3))
            await settle()
            node = s.tree().find("t/a")
            assert (node.set_aside, node.queued, node.in_hand) == (3, 0, None)
            assert "set aside 3" in str(s.tree())
            for message in (Open(), Knock(4), Close(), Knock(5)):
                ref.cast_nowait(message)
        await settle()
        assert answers == [2]
        assert log.lines == [("knock", 1), ("ask", 2), ("knock", 3), ("knock", 4)]
        assert s.tree().find("t/a").set_aside == 1
        assert s.statistics().late_replies == 0


@seeded()
async def test_what_is_set_aside_counts_against_the_capacity() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(door(log, mailbox=Mailbox(capacity=3)))
        for n in (1, 2):
            await ref.cast(Knock(n))
            await settle()
        ref.cast_nowait(Knock(3))
        with pytest.raises(MailboxFull, match=r"capacity 3\), not accepted"):
            ref.cast_nowait(Knock(4))
        await settle()
        assert s.tree().find("t/a").set_aside == 3
        with pytest.raises(MailboxFull):
            ref.cast_nowait(Open())
        with trio.move_on_after(1) as scope:
            await ref.cast(Open())
        assert scope.cancelled_caught


@seeded()
async def test_a_deferred_call_whose_caller_leaves_is_withdrawn() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(door(log, mailbox=Mailbox(capacity=2)))
        await ref.cast(Knock(1))
        await settle()
        with pytest.raises(CallTimeout, match="unbegun; 0 queued; the callee is idle; 2 messages set aside"):
            await ref.call(Ask(2), timeout=1)
        assert s.tree().find("t/a").set_aside == 1
        admitted: list[float] = []

        async def open_when_there_is_room() -> None:
            with trio.fail_after(10):
                await ref.cast(Open())
            admitted.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            with trio.move_on_after(2) as scope:
                async with trio.open_nursery() as inner:
                    inner.start_soon(ref.call, Ask(3), math.inf)
                    await settle()
                    nursery.start_soon(open_when_there_is_room)
                    await trio.sleep_forever()
        assert admitted == [scope.deadline]
        await settle()
        assert log.lines == [("knock", 1)]
        assert s.tree().find("t/a").queued == 0
        assert s.statistics().late_replies == 0


class OpenLater(Door):
    """Open from its second incarnation on: it replays nothing by itself."""

    async def init(self) -> None:
        self.open = self.context.incarnation > 1


async def restart_with_three_set_aside(on_restart: Any) -> tuple[Log, list[object]]:
    """What was handled and reported, and how the call among them ended."""
    log = Log()
    async with system(log) as s:
        mailbox = Mailbox(on_restart=on_restart)
        ref = await s.start_child(ChildSpec("a", lambda: OpenLater(log), backoff=NOW, mailbox=mailbox))
        answers: list[object] = []

        async def ask() -> None:
            try:
                answers.append(await ref.call(Ask(2)))
            except ActorDown as error:
                answers.append(error.begun)

        async with trio.open_nursery() as nursery:
            ref.cast_nowait(Knock(1))
            nursery.start_soon(ask)
            await settle()
            for message in (Crash(), Knock(3)):
                ref.cast_nowait(message)
        await settle()
        assert ref.place.inbox.room == 1000
    return log, answers


@seeded()
async def test_set_aside_messages_survive_a_restart() -> None:
    log, answers = await restart_with_three_set_aside("keep")
    assert log.lines == [("knock", 1), ("ask", 2), ("knock", 3)]
    assert answers == [2]
    assert [(event.message, event.why) for event in log.seen(Undelivered)] == [(Crash(), "in_hand")]


@seeded()
async def test_set_aside_messages_are_dropped_with_the_mailbox() -> None:
    log, answers = await restart_with_three_set_aside("drop")
    assert log.lines == []
    assert answers == [False]
    assert [(event.message, event.why) for event in log.seen(Undelivered)] == [
        (Crash(), "in_hand"),
        (Knock(1), "dropped"),
        (Knock(3), "dropped"),
    ]


@seeded()
async def test_what_is_set_aside_when_a_place_closes_is_reported() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(door(log))
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ActorDown, match="before it began this call"):
                    await ref.call(Ask(2), timeout=10)

            ref.cast_nowait(Knock(1))
            nursery.start_soon(ask)
            await settle()
            await s.stop_child("a")
        assert [(event.message, event.why) for event in log.seen(Undelivered)] == [(Knock(1), "closed")]
        assert s.statistics().undelivered == 1


@seeded()
async def test_a_call_whose_caller_left_while_it_was_in_hand_is_not_set_aside() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(door(log))
        with pytest.raises(CallTimeout, match="it had been begun"):
            await ref.call(Do("nap, then defer"), timeout=0.5)
        await trio.sleep(1)
        assert s.tree().find("t/a").set_aside == 0
        assert ref.place.inbox.room == 1000


@seeded()
async def test_bad_uses_of_defer() -> None:
    log = Log()
    async with system(log, max_restarts=10) as s:
        ref = await s.start_child(door(log))
        for what, error, text in (
            ("defer twice", CannotDefer, "this Do has been deferred already"),
            ("defer, then its reply", NotInCall, "in the handler of a Call, once; in hand: Do"),
        ):
            with pytest.raises(ActorDown) as caught:  # it did not catch its own error: it crashed
                await ref.call(Do(what))
            assert isinstance(caught.value.reason.error, error)
            assert text in str(caught.value)
        assert await ref.call(Do("defer its reply, then it")) == "replied"
        assert "no handler of a message is running in this task" in await ref.call(Do("defer in a task"))
        with pytest.raises(CannotDefer, match=r"t/b: defer\(\) belongs in the handler of a message"):
            await s.start_child(ChildSpec("b", DefersInInit))


class DefersInInit(Actor):
    async def init(self) -> None:
        self.context.defer()


@seeded()
async def test_a_handler_that_raises_after_defer_has_had_its_message() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(door(log))
        with pytest.raises(ActorDown) as caught:
            await ref.call(Do("defer, then crash"))
        assert caught.value.begun
        await settle()
        assert s.tree().find("t/a").set_aside == 0
        assert await ref.call(Do("anything")) == "done"


@seeded()
async def test_replay_after_defer_in_one_handler_includes_the_message_in_hand() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(door(log))
        ref.cast_nowait(Knock(1))
        assert await ref.call(Do("defer once, and replay")) == "done"
        assert log.lines == [("knock", 1)]


@seeded()
async def test_a_deferred_cast_keeps_its_redeliveries() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(door(log))
        for message in (Open(), Again(-1)):
            ref.cast_nowait(message)
        await settle()  # crashed, re-delivered to a closed door, set aside
        assert s.tree().find("t/a").set_aside == 1
        ref.cast_nowait(Open())
        await settle()
        assert log.lines == [("knock", -1), ("knock", -1)]
        assert [(event.message, event.why) for event in log.seen(Undelivered)] == [(Again(-1), "dead_letter")]


@seeded()
async def test_deferred_timers_and_downs_do_not_reach_a_later_incarnation() -> None:
    log = Log()
    async with system(log) as s:
        other = await s.start_child(ChildSpec("other", lambda: Door(log), restart="temporary"))

        class Setting(Door):
            async def init(self) -> None:
                if self.context.incarnation == 1:
                    self.context.send_after(0, Knock(1))
                    self.context.monitor(other)

        ref = await s.start_child(ChildSpec("a", lambda: Setting(log), backoff=NOW))
        other.cast_nowait(Crash())
        await settle()
        assert s.tree().find("t/a").set_aside == 2
        for message in (Crash(), Open(), Knock(2)):
            ref.cast_nowait(message)
        await settle()
        assert log.lines == [("down", "t/other", False), ("knock", 2)]


@seeded()
async def test_a_deferred_down_is_handled_again() -> None:
    log = Log()
    async with system(log) as s:
        other = await s.start_child(ChildSpec("other", lambda: Door(log), restart="temporary"))

        class Monitoring(Door):
            async def init(self) -> None:
                self.context.monitor(other)

        ref = await s.start_child(ChildSpec("a", lambda: Monitoring(log)))
        other.cast_nowait(Crash())
        await settle()
        await ref.cast(Open())
        await settle()
        assert log.lines == [("down", "t/other", False), ("down", "t/other", True)]


@seeded()
async def test_drop_oldest_drops_what_was_set_aside_first() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(door(log, mailbox=Mailbox(capacity=2, when_full="drop_oldest")))
        for n in (1, 2, 3):
            ref.cast_nowait(Knock(n))
            await settle()
        ref.cast_nowait(Open())
        await settle()
        assert log.lines == [("knock", 3)]
        assert [event.message.n for event in log.seen(Undelivered)] == [1, 2]


@seeded()
async def test_a_mailbox_over_its_bound_by_one_loses_nothing_silently() -> None:
    """A message taken out, its room taken by others, and set aside: two must go for the next one."""
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(door(log, mailbox=Mailbox(capacity=1, when_full="drop_oldest")))
        ref.cast_nowait(Knock(1))
        while ref.place.inbox.count:
            await trio.lowlevel.checkpoint()
        # its handler is between its checkpoint and defer()
        ref.cast_nowait(Knock(2))
        while not ref.place.inbox.aside:
            await trio.lowlevel.checkpoint()
        ref.cast_nowait(Knock(3))
        await settle()
        ref.cast_nowait(Open())
        await settle()
        lost = [event.message.n for event in log.seen(Undelivered)]
        assert sorted(lost + [line[0] for line in log.of("knock")]) == [1, 2, 3]


@seeded()
async def test_a_call_set_aside_is_an_edge() -> None:
    """Who waits for a deferred call waits for the actor: being called by it would never end."""
    log = Log()
    async with system(log) as s:
        a = await s.start_child(door(log))

        class Asking(Actor):
            @handles(Do)
            async def do(self, message: Do) -> str:
                return str(await a.call(Ask(1), math.inf))

        class Calling(Door):
            @handles(Do)
            async def do(self, message: Do) -> str:
                try:
                    return await b.call(Do("x"), math.inf)
                except CallCycle:
                    self.open = True
                    self.context.replay_deferred()
                    return "cycle"

        await s.stop_child("a")
        a = await s.start_child(ChildSpec("a", lambda: Calling(log)))
        b = await s.start_child(ChildSpec("b", Asking))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.call, Do("ask"))
            await settle()
            assert s.tree().find("t/a").set_aside == 1
            assert await a.call(Do("call back")) == "cycle"
