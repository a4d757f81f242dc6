"""defer(): messages set aside until the actor wants them, and what becomes of them."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, ClassVar

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision import (
    Actor,
    ActorDown,
    ActorRef,
    Call,
    CallCycle,
    CallTimeout,
    CannotDefer,
    Cast,
    ChildSpec,
    Down,
    Mailbox,
    MailboxFull,
    NotInCall,
    SupervisionError,
    Undelivered,
    handles,
)
from supervision.testing import InjectedFault, cancel_sweep, run_seeded
from tests.supervision.world import NOW, Boom, Crash, Log, seeded, settle, system


class Knock(Cast, frozen=True):
    """Handled while the door is open."""

    n: int


class Again(Knock, frozen=True):
    redeliver: ClassVar[int] = 1


class Ask(Call[int], frozen=True):
    """Answered while the door is open."""

    n: int


class Open(Cast, frozen=True):
    """From now on."""


class Close(Cast, frozen=True):
    """From now on."""


class Do(Call[str], frozen=True):
    """What the text says."""

    what: str


class Door(Actor):
    """Defers what comes while it is closed."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.open = False

    @handles(Knock)
    async def knock(self, message: Knock) -> None:
        if not self.open:
            await trio.lowlevel.checkpoint()
            self.context.defer()
            return
        self.log.add("knock", message.n)
        if message.n < 0:
            raise Boom

    @handles(Ask)
    def ask(self, message: Ask) -> int:
        if not self.open:
            self.context.defer()
            return -1  # counts no more
        self.log.add("ask", message.n)
        return message.n

    @handles(Open)
    def opened(self, message: Open) -> None:
        self.open = True
        self.context.replay_deferred()

    @handles(Close)
    def closed(self, message: Close) -> None:
        self.open = False

    @handles(Crash)
    def crash(self, message: Crash) -> None:
        raise Boom

    @handles(Down)
    def down(self, message: Down) -> None:
        self.log.add("down", message.path, self.open)
        if not self.open:
            self.context.defer()

    @handles(Do)
    async def do(self, message: Do) -> str:
        context = self.context
        if message.what == "defer twice":
            context.defer()
            context.defer()
        if message.what == "defer, then its reply":
            context.defer()
            context.defer_reply()
        if message.what == "defer its reply, then it":
            reply = context.defer_reply()
            try:
                context.defer()
            finally:
                reply.send("replied")
        if message.what == "defer in a task":
            caught: list[CannotDefer] = []

            async def task() -> None:
                try:
                    context.defer()
                except CannotDefer as error:
                    caught.append(error)

            context.start_task(task)
            await settle()
            return str(caught[0])
        if message.what == "nap, then defer":
            await trio.sleep(1)
            context.defer()
        if message.what == "defer, then crash":
            context.defer()
            raise Boom
        if message.what == "defer once, and replay" and not self.open:
            self.open = True
            context.defer()
            context.replay_deferred()
        return "done"


def door(log: Log, **options: Any) -> ChildSpec:
    return ChildSpec("a", lambda: Door(log), backoff=NOW, **options)


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
