"""Mailbox(capacity=0): a sender waits until the actor has taken its message."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from functools import partial

import pytest
import trio

from supervision import (
    Actor,
    ActorDown,
    ActorRef,
    ActorStopped,
    Backoff,
    CallCycle,
    CallTimeout,
    Cast,
    ChildSpec,
    InvalidSpec,
    Mailbox,
    MailboxFull,
    SupervisionError,
    Undelivered,
    handles,
)
from supervision.testing import InjectedFault, cancel_sweep
from tests.supervision.world import NOW, Add, Boom, Counter, Crash, Get, Log, Nap, child, seeded, settle, system

MEET = Mailbox(capacity=0)


def sender(ref: ActorRef, sent: list[int], n: int) -> Callable[[], object]:
    async def send() -> None:
        await ref.cast(Add(n))
        sent.append(n)

    return send


@seeded()
async def test_a_cast_returns_when_the_actor_takes_the_message() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(child("a", log, mailbox=MEET))
        await ref.cast(Add(1))  # it was idle
        assert log.of("add") == [("a", 1)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.call, Nap(5.0), math.inf)
            await settle()
            sent: list[int] = []
            for n in (2, 3, 4):
                nursery.start_soon(sender(ref, sent, n))
                await settle()
            node = ref.statistics()
            assert (node.queued, node.blocked, sent) == (0, 3, [])
            began = trio.current_time()
            await ref.call(Get(), timeout=math.inf)  # the fourth in line
            assert trio.current_time() == pytest.approx(began + 5, abs=0.1)
            assert log.of("add") == [("a", n) for n in (1, 2, 3, 4)]
        assert sorted(sent) == [2, 3, 4]


@seeded()
async def test_the_sender_is_let_go_at_the_beginning_of_its_handler_not_at_its_end() -> None:
    class Slow(Counter):
        @handles(Add)
        async def add(self, message: Add) -> None:
            await trio.sleep(10)

    async with system() as s:
        ref = await s.start_child(ChildSpec("a", Slow, mailbox=MEET))
        began = trio.current_time()
        await ref.cast(Add())
        assert trio.current_time() == began
        await ref.cast(Add())
        assert trio.current_time() == began + 10


@seeded()
async def test_without_waiting_only_an_idle_actor_takes_a_message() -> None:
    log = Log()
    async with system(log) as s:
        for name, mailbox in (("wait", MEET), ("reject", Mailbox(capacity=0, when_full="reject"))):
            ref = await s.start_child(child(name, log, mailbox=mailbox))
            ref.cast_nowait(Add(1))
            says = r"Add to t/\w+: nobody idle there to take it \(a rendezvous, capacity 0\), not accepted"
            with pytest.raises(MailboxFull, match=says):
                ref.cast_nowait(Add(2))  # it is on its way to the first
            await settle()
            ref.cast_nowait(Add(3))
            await settle()
            assert [line[1] for line in log.of("add") if line[0] == name] == [1, 3]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.call, Nap(5.0), math.inf)
            await settle()
            with pytest.raises(MailboxFull):
                await ref.cast(Add(4))
            with pytest.raises(MailboxFull):
                await ref.call(Get())
        await ref.cast(Add(5))
        await settle()
        assert await ref.call(Get()) == 1 + 3 + 5


@seeded(seeds=20)
async def test_a_cancelled_senders_message_was_not_taken() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(child("a", log, mailbox=MEET))
        sent: list[int] = []

        async def send(n: int, seconds: float) -> None:
            with trio.move_on_after(seconds):
                await ref.cast(Add(n))
                sent.append(n)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.call, Nap(5.0), math.inf)
            await settle()
            for n in range(10):
                nursery.start_soon(send, n, 5.0 - 0.001 if n % 2 else 1.0 if n % 4 else math.inf)
            with pytest.raises(CallTimeout, match="it was withdrawn unbegun; 0 queued"):
                await ref.call(Get(), timeout=1.0)
        await settle()
        assert sorted(line[1] for line in log.of("add")) == sorted(sent)
        assert {0, 4, 8} <= set(sent) <= {0, 4, 8, 1, 3, 5, 7, 9}
        assert ref.statistics().blocked == 0


@seeded()
async def test_waiting_senders_stay_in_line_across_a_restart_in_order() -> None:
    log = Log()
    async with system(log) as s:
        for name, mailbox in (("keep", MEET), ("drop", Mailbox(capacity=0, on_restart="drop"))):
            ref = await s.start_child(child(name, log, mailbox=mailbox))
            sent: list[int] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ref.call, Nap(5.0), math.inf)
                await settle()
                nursery.start_soon(ref.cast, Crash())
                for n in (1, 2, 3):
                    await settle()
                    nursery.start_soon(sender(ref, sent, n))
            await settle()
            assert sorted(sent) == [1, 2, 3]
            assert [line[1] for line in log.of("add") if line[0] == name] == [1, 2, 3]
            assert ref.statistics().incarnation == 2
        lost = [(event.path, event.message, event.why) for event in log.seen(Undelivered)]
        assert lost == [("t/keep", Crash(), "in_hand"), ("t/drop", Crash(), "in_hand")]


@seeded()
async def test_a_sender_waits_for_the_restart_of_an_actor_that_has_had_no_message() -> None:
    def crash_later(counter: Counter) -> None:
        async def later() -> None:
            await trio.sleep(1)
            raise Boom

        if counter.context.incarnation == 1:
            counter.context.start_task(later)

    async with system() as s:
        slowly = Backoff(initial=10.0, maximum=10.0, jitter=0.0)
        ref = await s.start_child(child("a", mailbox=MEET, backoff=slowly, on_init=crash_later))
        await trio.sleep(2)
        assert ref.state == "waiting"
        with pytest.raises(MailboxFull):
            ref.cast_nowait(Add(1))
        began = trio.current_time()
        await ref.cast(Add(1))
        assert trio.current_time() == pytest.approx(began + 9, abs=0.1)
        assert await ref.call(Get()) == 1


@seeded()
async def test_a_stop_refuses_all_in_line() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(child("a", log, mailbox=MEET, shutdown=1.0))
        refused: list[str] = []

        async def cast() -> None:
            with pytest.raises(ActorStopped):
                await ref.cast(Add(1))
            refused.append("cast")

        async def call() -> None:
            with pytest.raises(ActorDown, match="before it began this call"):
                await ref.call(Get(), math.inf)
            refused.append("call")

        async def nap() -> None:
            with pytest.raises(ActorDown):
                await ref.call(Nap(50.0), math.inf)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(nap)
            await settle()
            nursery.start_soon(cast)
            nursery.start_soon(call)
            await settle()
            await s.stop_child("a")
        assert sorted(refused) == ["call", "cast"]
        # Nobody had accepted anything: nothing is undelivered.
        assert log.seen(Undelivered) == []
        assert log.of("add") == []


@seeded(seeds=20)
async def test_a_message_in_the_step_in_which_its_actor_would_hibernate() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(child("a", log, mailbox=MEET, hibernate_after=10.0))
        start = trio.current_time()
        times: list[float] = []

        async def cast(at: float) -> None:
            await trio.sleep_until(start + at)
            with trio.fail_after(1):
                await ref.cast(Add(0))
            times.append(trio.current_time() - start)

        async def hand_over(at: float) -> None:
            await trio.sleep_until(start + at)
            with contextlib.suppress(MailboxFull):
                ref.cast_nowait(Add(1))

        async with trio.open_nursery() as nursery:
            for at in (10.0, 20.0, 45.0, 55.0):
                nursery.start_soon(cast, at)
            for at in (20.0, 80.0):
                nursery.start_soon(hand_over, at)
        assert times == pytest.approx([10.0, 20.0, 45.0, 55.0])
        await settle()
        assert ("a", 1) in log.of("add")  # the one that came to an actor that hibernated
        assert log.of("init") == [("a", 1)]


class Kick(Cast, frozen=True):
    """Cast to the other."""


class Peer(Actor):
    def __init__(self, peers: list[ActorRef], me: int, found: list[tuple[str, ...]]) -> None:
        self.peers = peers
        self.me = me
        self.found = found

    @handles(Kick)
    async def kick(self, message: Kick) -> None:
        await trio.sleep(1)
        try:
            await self.peers[(self.me + 1) % len(self.peers)].cast(Kick())
        except CallCycle as cycle:
            self.found.append(cycle.chain)


@seeded()
async def test_senders_are_edges() -> None:
    for length in (1, 2, 3):
        found: list[tuple[str, ...]] = []
        async with system() as s:
            peers: list[ActorRef] = []
            for i in range(length):
                peers.append(await s.start_child(ChildSpec(f"p{i}", partial(Peer, peers, i, found), mailbox=MEET)))
            for peer in peers:
                await peer.cast(Kick())
            await trio.sleep(2.5)
            (chain,) = found
            assert (len(chain), chain[0]) == (length + 1, chain[-1])


@seeded()
async def test_while_something_is_set_aside_nothing_is_taken() -> None:
    class Later(Counter):
        async def init(self) -> None:
            self.open = False

        @handles(Add)
        async def add(self, message: Add) -> None:
            if not self.open:
                self.context.defer()
                self.context.start_task(self.wait)
                return
            await super().add(message)

        async def wait(self) -> None:
            await trio.sleep(3)
            self.open = True
            self.context.replay_deferred()

    log = Log()
    async with system(log) as s:
        ref = await s.start_child(ChildSpec("a", lambda: Later(log), mailbox=MEET))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.call, Nap(1.0))
            await settle()
            nursery.start_soon(ref.cast, Add(1))
            await settle()
            nursery.start_soon(ref.cast, Add(3))
            await trio.sleep(1.5)
            assert (ref.statistics().set_aside, ref.statistics().blocked) == (1, 1)
            with pytest.raises(MailboxFull):
                ref.cast_nowait(Add(2))
            began = trio.current_time()
            await ref.cast(Add(4))
            assert trio.current_time() == pytest.approx(began + 2.5, abs=0.1)
        await settle()
        assert log.of("add") == [("a", 1), ("a", 3), ("a", 4)]


@seeded()
async def test_a_timer_reaches_an_idle_actor_and_is_reported_to_a_busy_one() -> None:
    def set_timers(counter: Counter) -> None:
        counter.context.send_after(1.0, Add(1))
        counter.context.send_after(3.0, Add(2))

    log = Log()
    async with system(log) as s:
        ref = await s.start_child(child("a", log, mailbox=MEET, on_init=set_timers))
        await trio.sleep(2)
        await ref.call(Nap(2.0))
        assert log.of("add") == [("a", 1)]
        assert [(event.message, event.why) for event in log.seen(Undelivered)] == [(Add(2), "dropped")]


class Meeting:
    """Senders, callers, a crash and a stop, at a rendezvous."""

    def __init__(self) -> None:
        self.log = Log()
        self.accepted: list[int] = []

    async def run(self) -> None:
        async with system(self.log) as s, trio.open_nursery() as nursery:
            ref = await s.start_child(child("a", self.log, mailbox=MEET, hibernate_after=1.0))

            async def send(*numbers: int) -> None:
                for n in numbers:
                    with contextlib.suppress(SupervisionError):
                        await ref.cast(Add(n))
                        self.accepted.append(n)

            async def ask() -> None:
                with contextlib.suppress(SupervisionError):
                    await ref.call(Get(), timeout=1.0)

            nursery.start_soon(send, 1, 2, 3)
            nursery.start_soon(send, 11, 12, 13)
            nursery.start_soon(ask)
            await ref.cast(Crash())
            nursery.start_soon(send, 21, 22)
            await trio.sleep(2)
            with contextlib.suppress(MailboxFull):
                ref.cast_nowait(Add(31))
                self.accepted.append(31)
            nursery.start_soon(send, 41)
            await s.stop_child("a")

    def check(self, error: BaseException | None) -> None:
        assert error is None or isinstance(error, InjectedFault)
        handled = [line[1] for line in self.log.of("add")]
        lost = [event.message.n for event in self.log.seen(Undelivered) if isinstance(event.message, Add)]
        known = [*handled, *lost]
        assert len(known) == len(set(known))
        # A fault that strikes a sender between its acceptance and our note of it leaves one taken and unnoted.
        assert set(self.accepted) <= set(known)
        assert len(known) - len(self.accepted) <= (0 if error is None else 3)
        for tens in range(5):
            mine = [n for n in handled if n // 10 == tens]
            assert mine == sorted(mine)


def test_a_rendezvous_cut_at_any_step() -> None:
    assert cancel_sweep(Meeting, seeds=range(5)).runs > 50


class Poison(Cast, frozen=True):
    redeliver = 1


@seeded()
async def test_a_message_that_is_redelivered_goes_before_who_waits() -> None:
    tries: list[int] = []

    class Victim(Counter):
        @handles(Poison)
        def poison(self, message: Poison) -> None:
            tries.append(self.context.incarnation)
            assert self.context.ref.statistics().queued == 0
            if len(tries) == 1:
                raise Boom

    log = Log()
    async with system(log) as s:
        ref = await s.start_child(ChildSpec("a", lambda: Victim(log), mailbox=MEET, backoff=NOW))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.call, Nap(1.0))
            await settle()
            nursery.start_soon(ref.cast, Poison())
            await settle()
            await ref.cast(Add(1))
        assert await ref.call(Get()) == 1  # the second incarnation's
        assert tries == [1, 2]


def test_nothing_is_oldest_where_nothing_waits() -> None:
    with pytest.raises(InvalidSpec, match="with capacity 0 there is no oldest to drop; choose wait or reject"):
        Mailbox(capacity=0, when_full="drop_oldest")
