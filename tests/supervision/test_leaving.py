"""Calls whose handlers are cancelled when their callers leave."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import trio

from supervision import (
    Actor,
    ActorDown,
    ActorRef,
    ActorRestarted,
    Call,
    CallTimeout,
    ChildSpec,
    LateReply,
    SupervisionError,
    handles,
)
from supervision.testing import InjectedFault, cancel_sweep
from tests.supervision.test_testing import check_lives
from tests.supervision.world import NOW, Add, Boom, Counter, Get, Log, Nap, child, seeded, settle, system


class Query(Call[str], frozen=True):
    """Takes a while, in which it may be cancelled."""

    cancel_on_leave: ClassVar[bool] = True
    seconds: float = 10.0
    then: str = ""


class Stubborn(Query, frozen=True):
    """Takes back what its base has opted for."""

    cancel_on_leave: ClassVar[bool] = False


class Pressing(Nap, frozen=True):
    """Opts for what its base has not."""

    cancel_on_leave: ClassVar[bool] = True


class Forward(Call[str], frozen=True):
    """Ask the next one; cancelled with the caller."""

    cancel_on_leave: ClassVar[bool] = True


class Library(Counter):
    next: ActorRef | None = None

    @handles(Query)
    async def query(self, message: Query) -> str | None:
        self.log.add("begin", message.seconds)
        reply = self.context.defer_reply() if message.then == "defer its reply" else None
        try:
            await trio.sleep(message.seconds)
        except trio.Cancelled:
            self.log.add("cancelled", trio.current_time())
            if message.then == "crash":
                raise Boom from None
            if message.then == "go on":
                return "late"
            if message.then == "set aside":
                self.context.defer()
            raise
        if reply is not None:
            reply.send("deferred")
            return None
        self.log.add("end", message.seconds)
        return "found"

    @handles(Nap)
    async def nap(self, message: Nap) -> str:
        try:
            await trio.sleep(message.seconds)
        except trio.Cancelled:
            self.log.add("cancelled", trio.current_time())
            raise
        return "rested"

    @handles(Forward)
    async def forward(self, message: Forward) -> str:
        assert self.next is not None
        return await self.next.call(Query(), math.inf)


def library(log: Log, name: str = "a", next_one: ActorRef | None = None) -> ChildSpec:
    def make() -> Library:
        made = Library(log)
        made.next = next_one
        return made

    return ChildSpec(name, make, backoff=NOW)


@seeded()
async def test_a_caller_that_leaves_cancels_the_handler_and_the_actor_goes_on() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(library(log))
        start = trio.current_time()
        with trio.move_on_after(2):
            await ref.call(Query(), math.inf)
        with pytest.raises(CallTimeout, match="it had been begun"):
            await ref.call(Query(), timeout=3)
        await settle()
        assert [line[0] - start for line in log.of("cancelled")] == pytest.approx([2.0, 5.0])
        assert await ref.call(Query(1.0)) == "found"
        assert (log.of("init"), log.of("end")) == ([("a", 1)], [(1.0,)])
        assert log.seen(LateReply) == []
        assert ref.place.system.leaving == {}


@seeded()
async def test_a_caller_that_leaves_before_its_message_was_begun_withdraws_it_as_ever() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(library(log))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.call, Query(5.0), math.inf)
            await settle()
            with trio.move_on_after(1):
                await ref.call(Query(7.0), math.inf)
        assert log.of("begin") == [(5.0,)]
        assert log.of("cancelled") == []


@seeded()
async def test_without_opting_the_handler_goes_on() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(library(log))
        for message in (Nap(3.0), Stubborn(3.0)):
            with pytest.raises(CallTimeout):
                await ref.call(message, timeout=1)
            await trio.sleep(5)
        assert log.of("cancelled") == []
        assert len(log.seen(LateReply)) == 2


@seeded()
async def test_a_subclass_may_opt_for_what_its_base_has_not() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(library(log))
        with pytest.raises(CallTimeout):
            await ref.call(Pressing(3.0), timeout=1)
        await settle()
        assert len(log.of("cancelled")) == 1


@seeded()
async def test_leaving_goes_down_a_chain_of_calls() -> None:
    log = Log()
    async with system(log) as s:
        last = await s.start_child(library(log, "c"))
        middle = await s.start_child(library(log, "b", last))
        first = await s.start_child(library(log, "a", middle))
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(1):
                nursery.start_soon(middle.call, Nap(0.0))
                await settle()
                await first.call(Query(0.0))
                await middle.call(Forward(), math.inf)
        await settle()
        assert len(log.of("cancelled")) == 1
        assert [node.in_hand for node in s.tree() if node.kind == "actor"] == [None] * 3


@seeded()
async def test_what_a_cancelled_handler_does_counts() -> None:
    """Raising is a crash, answering is a late reply, deferring leads to nothing, for nobody waits."""
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(library(log))
        for then, late, lives in (
            ("go on", 1, 1),
            ("set aside", 1, 1),
            ("defer its reply", 1, 1),
            ("crash", 1, 2),
        ):
            with pytest.raises(CallTimeout):
                await ref.call(Query(then=then), timeout=1)
            await settle()
            assert len(log.seen(LateReply)) == late, then
            assert ref.place.number == lives, then
            node = ref.statistics()
            assert (node.deferred, node.set_aside, node.in_hand) == (0, 0, None), then
            assert await ref.call(Get()) == 0
        assert len(log.seen(ActorRestarted)) == 1


@seeded()
async def test_a_stop_cuts_such_a_handler_like_any_other() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(library(log))

        async def ask() -> None:
            with pytest.raises(ActorDown, match="killed"):
                await ref.call(Query(1000.0), math.inf)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await settle()
            before = trio.current_time()
            await s.stop_child("a")
            assert trio.current_time() - before == pytest.approx(5.0)
        assert [line[2] for line in log.of("terminate")] == ["killed"]


@seeded(seeds=30)
async def test_the_reply_and_the_leave_in_one_step() -> None:
    """Answered or left, never both, never neither; and the next message is handled in any case."""
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(library(log))
        start = trio.current_time()
        ends: list[str] = []

        async def ask() -> None:
            with trio.CancelScope(deadline=start + 5.0):
                ends.append(await ref.call(Query(5.0), timeout=math.inf))
                return
            ends.append("left")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await settle()
            ref.cast_nowait(Add(1))
        assert ends in (["found"], ["left"])
        await settle()
        assert log.of("add") == [("a", 1)]
        assert await ref.call(Get()) == 1
        assert log.of("init") == [("a", 1)]
        assert s.statistics().late_replies <= (ends == ["left"])


class LeavesAnyway(Actor):
    def __init__(self, log: Log) -> None:
        self.log = log

    @handles(Query)
    def query(self, message: Query) -> str:
        return "at once"


@seeded()
async def test_sync_handlers_and_hibernation() -> None:
    log = Log()
    async with system(log) as s:
        quick = await s.start_child(ChildSpec("q", lambda: LeavesAnyway(log)))
        assert await quick.call(Query()) == "at once"
        assert quick.place.system.leaving == {}
        ref = await s.start_child(child("a", log))
        assert ref.place.life is not None
        assert ref.place.handlers is Counter.__handlers__  # nothing is wrapped where nobody has opted
        sleeper = await s.start_child(ChildSpec("s", lambda: Library(log), hibernate_after=1.0))
        await trio.sleep(5)
        assert sleeper.statistics().hibernated
        with pytest.raises(CallTimeout):
            await sleeper.call(Query(), timeout=1)
        await settle()
        assert len(log.of("cancelled")) == 1


class Leaving:
    """Callers that leave at all times, messages between them; cut anywhere."""

    def __init__(self) -> None:
        self.log = Log()
        self.asked = self.ended = 0

    async def run(self) -> None:
        async with system(self.log) as s:
            self.s = s
            last = await s.start_child(library(self.log, "b"))
            ref = await s.start_child(library(self.log, "a", last))
            async with trio.open_nursery() as nursery:
                queries = ((Query(2.0), 1.0), (Forward(), 2.0), (Query(1.0), 9.0), (Stubborn(1.0), 5.0))
                for message, timeout in queries:
                    nursery.start_soon(self.ask, ref, message, timeout)
                    await settle()
            await self.ask(ref, Get(), 5.0)

    async def ask(self, ref: ActorRef, message: Call[object], timeout: float) -> None:
        self.asked += 1
        try:
            await ref.call(message, timeout)
        except SupervisionError:
            pass
        finally:
            self.ended += 1

    def check(self, error: BaseException | None) -> None:
        assert error is None or isinstance(error, InjectedFault)
        check_lives(self.log)
        assert self.asked == self.ended
        if hasattr(self, "s"):
            system = self.s._system
            assert (system.leaving, self.s.statistics().timers, self.s.statistics().actors) == ({}, 0, 0)


def test_leaving_cut_at_any_step() -> None:
    assert cancel_sweep(Leaving, seeds=range(3)).runs > 100
