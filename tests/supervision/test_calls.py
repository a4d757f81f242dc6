"""Calls: every one ends once, with a value, an error, a timeout or Cancelled."""

from __future__ import annotations

import math

import pytest
import trio

from supervision import (
    Actor,
    ActorDown,
    ActorStopped,
    AlreadyReplied,
    Call,
    CallTimeout,
    Cast,
    InvalidSpec,
    LateReply,
    NotInCall,
    Reply,
    UnknownMessage,
    handles,
)
from supervision.spec import ChildSpec
from tests.supervision.world import (
    Add,
    Boom,
    Crash,
    CrashCall,
    Defer,
    Get,
    Log,
    Nap,
    Quit,
    child,
    seeded,
    settle,
    system,
)


@seeded()
async def test_call_and_cast() -> None:
    async with system() as s:
        ref = await s.start_child(child("a"))
        await ref.cast(Add(2))
        ref.cast_nowait(Add(3))
        assert await ref.call(Get()) == 5
        assert ref.path == "t/a"
        assert ref.name == "a"


@seeded()
async def test_the_call_in_hand_fails_at_once_and_is_not_repeated() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(child("a", log))
        with pytest.raises(ActorDown) as caught:
            await ref.call(CrashCall(), timeout=math.inf)
        assert caught.value.begun
        assert isinstance(caught.value.reason.error, Boom)
        assert "while it handled this call: crash: Boom" in str(caught.value)
        assert await ref.call(Get()) == 0
        assert log.of("init") == [("a", 1), ("a", 2)]


@seeded()
async def test_the_call_in_hand_does_not_wait_for_terminate() -> None:
    class Slow(Actor):
        @handles(CrashCall)
        def crash(self, message: CrashCall) -> int:
            raise Boom

        async def terminate(self, reason: object) -> None:
            await trio.sleep(4)

    async with system() as s:
        ref = await s.start_child(ChildSpec("a", Slow))
        before = trio.current_time()
        with pytest.raises(ActorDown):
            await ref.call(CrashCall())
        assert trio.current_time() == before


@seeded()
async def test_queued_calls_wait_for_the_next_incarnation() -> None:
    async with system() as s:
        ref = await s.start_child(child("a"))
        ref.cast_nowait(Crash())
        ref.cast_nowait(Add(1))
        assert await ref.call(Get()) == 1


@seeded()
async def test_timeout_names_what_matters() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(child("a", log))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.call, Nap(20.0), math.inf)
            await settle()
            ref.cast_nowait(Add())
            before = trio.current_time()
            with pytest.raises(CallTimeout) as caught:
                await ref.call(Get(), timeout=2.0)
            assert trio.current_time() - before == pytest.approx(2.0)
        text = str(caught.value)
        assert "Get to t/a: no reply within 2 s" in text
        assert "withdrawn unbegun" in text
        assert "2 queued" in text
        assert "has been handling Nap for 2 s" in text
        assert "world.py" in text
        assert isinstance(caught.value, TimeoutError)
        # it was withdrawn: no late reply comes
        assert log.seen(LateReply) == []


@seeded()
async def test_late_reply_changes_nothing_but_a_counter() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(child("a", log))
        with pytest.raises(CallTimeout) as caught:
            await ref.call(Nap(3.0), timeout=1.0)
        assert caught.value.begun
        await trio.sleep(5)
        assert len(log.seen(LateReply)) == 1
        assert s.statistics().late_replies == 1
        assert s.statistics().timers == 0
        assert await ref.call(Get()) == 0


@seeded()
async def test_a_cancelled_caller_withdraws_and_the_actor_goes_on() -> None:
    async with system() as s:
        ref = await s.start_child(child("a"))
        with trio.move_on_after(0.5):
            await ref.call(Nap(1.0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.call, Nap(1.0))
            await settle()
            with trio.move_on_after(0.1) as scope:
                await ref.call(Get())
            assert scope.cancelled_caught
            assert s.tree().find("t/a").queued == 1  # the nap behind the nap
        assert s.statistics().timers == 0


@seeded()
async def test_bad_timeouts_and_unknown_messages() -> None:
    class Unheard(Call[int], frozen=True):
        pass

    async with system() as s:
        ref = await s.start_child(child("a"))
        for timeout in (-1.0, math.nan):
            with pytest.raises(InvalidSpec, match="timeout must be at least 0"):
                await ref.call(Get(), timeout=timeout)
        with pytest.raises(UnknownMessage, match=r"t/a has no handler for .*Unheard; declare one with @handles"):
            await ref.call(Unheard())
        with pytest.raises(CallTimeout):
            await ref.call(Nap(), timeout=0)
        assert await ref.call(Get()) == 0
        assert s.statistics().actors == 1


@seeded()
async def test_a_stopped_actor_refuses_at_once() -> None:
    async with system() as s:
        ref = await s.start_child(child("a", restart="transient"))
        await ref.cast(Quit())
        with pytest.raises(ActorDown) as caught:
            await ref.call(Get(), timeout=math.inf)
        assert not caught.value.begun
        with pytest.raises(ActorStopped, match="t/a is not running: stopped"):
            await ref.call(Get(), timeout=math.inf)
        with pytest.raises(ActorStopped):
            await ref.cast(Add())
        with pytest.raises(ActorStopped):
            ref.cast_nowait(Add())


@seeded()
async def test_a_cancelled_sender_hears_of_that_first() -> None:
    """What has closed the actor has often cancelled the sender, too: then no error of its own comes out."""
    async with system() as s:
        ref = await s.start_child(child("a", restart="transient"))
        await s.stop_child("a")
        for send in (lambda: ref.call(Get()), lambda: ref.cast(Add())):
            with trio.CancelScope() as scope:
                scope.cancel()
                await send()
            assert scope.cancelled_caught


@seeded()
async def test_a_deferred_reply_comes_from_a_task_and_the_mailbox_stays_free() -> None:
    async with system() as s:
        ref = await s.start_child(child("a"))
        results: list[object] = []

        async def ask() -> None:
            results.append(await ref.call(Defer(2.0)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await settle()
            assert await ref.call(Get()) == 0
            assert s.tree().find("t/a").deferred == 1
        assert results == ["later"]


@seeded()
async def test_deferred_replies_fail_when_the_incarnation_ends() -> None:
    async with system() as s:
        ref = await s.start_child(child("a"))
        failures: list[ActorDown] = []

        async def ask(seconds: float) -> None:
            with pytest.raises(ActorDown) as caught:
                await ref.call(Defer(seconds), math.inf)
            failures.append(caught.value)

        async with trio.open_nursery() as nursery:
            for seconds in (50.0, 60.0):
                nursery.start_soon(ask, seconds)
            await settle()
            await ref.cast(Crash())
            await settle()
            assert len(failures) == 2
            nursery.start_soon(ask, 70.0)
            await settle()
            await s.stop_child("a")
        assert [failure.begun for failure in failures] == [True] * 3
        assert [failure.reason.kind for failure in failures] == ["crash", "crash", "shutdown"]


@seeded()
async def test_replying_twice_and_outside_of_a_call() -> None:
    class Take(Cast, frozen=True):
        pass

    caught: list[Exception] = []
    kept: list[Reply[str]] = []

    class Odd(Actor):
        @handles(Defer)
        def defer(self, message: Defer) -> None:
            reply = self.context.defer_reply()
            kept.append(reply)
            try:
                self.context.defer_reply()
            except NotInCall as error:
                caught.append(error)
            assert reply.wanted
            reply.send("once")
            assert not reply.wanted
            try:
                reply.send("twice")
            except AlreadyReplied as error:
                caught.append(error)

        @handles(Take)
        def take(self, message: Take) -> None:
            try:
                self.context.defer_reply()
            except NotInCall as error:
                caught.append(error)

        @handles(Nap)
        def refuse(self, message: Nap) -> None:
            self.context.defer_reply().fail(Boom("no"))

    async with system() as s:
        ref = await s.start_child(ChildSpec("a", Odd))
        assert await ref.call(Defer()) == "once"
        with pytest.raises(Boom, match="no"):
            await ref.call(Nap())
        await ref.cast(Take())
        await settle()
        assert [type(error) for error in caught] == [NotInCall, AlreadyReplied, NotInCall]
        assert s.statistics().restarts == 0


@seeded(seeds=20)
async def test_reply_and_cancel_in_the_same_step() -> None:
    """Value or Cancelled, never both, never neither."""
    async with system() as s:
        ref = await s.start_child(child("a"))
        outcome: list[str] = []
        with trio.move_on_after(1.0) as scope:
            outcome.append(await ref.call(Nap(1.0)))
        assert bool(outcome) != scope.cancelled_caught
        await settle()
        assert await ref.call(Get()) == 0
