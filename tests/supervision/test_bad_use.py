"""Bad use: a typed error at whoever is wrong, which says what to do, and an actor that answers as before."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision import (
    ActorRef,
    ActorStopped,
    ActorSystem,
    AlreadyReplied,
    Call,
    CallCycle,
    CallTimeout,
    ChildSpec,
    Event,
    InvalidSpec,
    NameTaken,
    NotRunning,
    Reply,
    ReplyRefused,
    StateMachine,
    SupervisionError,
    SupervisorSpec,
    UnknownMessage,
    WrongMessageKind,
    WrongReply,
    handles,
    in_state,
)
from supervision.testing import run_seeded
from tests.supervision.liars import Liar, Size, Unasked, Unheard, answers, lie, strict
from tests.supervision.world import Add, Boom, Counter, Defer, Get, Log, Nap, child, seeded, settle, system

# ---- messages


@seeded()
async def test_an_undeclared_message_type() -> None:
    async with system() as s:
        ref = await s.start_child(child("a"))
        with pytest.raises(
            UnknownMessage, match=r"t/a has no handler for Unasked; declare one with @handles\(Unasked\)"
        ):
            await ref.call(Unasked())
        with pytest.raises(UnknownMessage, match=r"It handles: .*Add, .*Get"):
            await ref.cast(Unheard())
        with pytest.raises(UnknownMessage, match="Unheard"):
            ref.cast_nowait(Unheard())
        await answers(ref)


@seeded()
async def test_a_cast_that_is_called_and_a_call_that_is_cast() -> None:
    async with system() as s:
        ref = await s.start_child(child("a"))

        async def refused(send: Callable[..., Any], message: object, says: str) -> None:
            with pytest.raises(WrongMessageKind, match=re.escape(says)) as caught:
                result = send(message)
                if result is not None:
                    await result
            assert (caught.value.target, caught.value.given) == ("t/a", message)
            assert ref.place.inbox.accepted == 0

        as_call = "a Get, which is a Call: it expects a reply; send it with call(), or derive its type from Cast"
        as_cast = "call() to t/a was given a Add, which is a Cast: it has no reply; send it with cast()"
        for send in (ref.cast, ref.cast_nowait):
            await refused(send, Get(), as_call)
            await refused(send, 7, "a int, which is no message; derive its type from supervision.Cast")
            await refused(send, Add, "the class Add, which is a type of messages; make one: Add(...)")
        await refused(ref.call, Add(), as_cast)
        await refused(ref.call, None, "a NoneType, which is no message; derive its type from supervision.Call")
        await refused(ref.call, Get, "the class Get, which is a type of messages; make one: Get(...)")
        await answers(ref)
        # The mistake is in the sender's code: it is told whether or not the actor is there.
        await s.stop_child("a")
        with pytest.raises(WrongMessageKind):
            await ref.call(Add())  # type: ignore[arg-type]


@seeded(seeds=1)
async def test_a_timer_that_would_call() -> None:
    def set_timer(counter: Counter) -> None:
        with pytest.raises(WrongMessageKind, match=r"send_after\(\) to t/a was given a Get"):
            counter.context.send_after(1.0, Get())  # type: ignore[arg-type]

    async with system() as s:
        ref = await s.start_child(child("a", on_init=set_timer))
        await trio.sleep(2)
        await answers(ref)


@seeded()
async def test_a_second_reply() -> None:
    replies: list[Reply[str]] = []
    caught: list[AlreadyReplied] = []

    class Twice(Counter):
        @handles(Nap)
        async def nap(self, message: Nap) -> None:  # type: ignore[override]
            reply = self.context.defer_reply()
            replies.append(reply)
            assert reply.send("once")
            for again in (lambda: reply.send("twice"), lambda: reply.fail(Boom())):
                with pytest.raises(AlreadyReplied, match="Nap to t/a has had its reply") as error:
                    again()
                caught.append(error.value)

    async with system() as s:
        ref = await s.start_child(ChildSpec("a", Twice))
        assert await ref.call(Nap()) == "once"
        assert len(caught) == 2
        with pytest.raises(AlreadyReplied):
            replies[0].send("from outside")
        await answers(ref)


@seeded()
async def test_calling_oneself() -> None:
    class Narcissus(Counter):
        @handles(Nap)
        async def nap(self, message: Nap) -> str:
            with pytest.raises(CallCycle) as caught:
                await self.context.ref.call(Get(), math.inf)
            assert caught.value.chain == ("t/a", "t/a")
            return str(caught.value)

    async with system() as s:
        ref = await s.start_child(ChildSpec("a", Narcissus))
        text = await ref.call(Nap())
        assert text == (
            "Get: this wait would never end: t/a -> t/a; use a cast, or call from a task of the actor's own"
        )
        await answers(ref)


@seeded(seeds=1)
async def test_a_call_without_a_sensible_timeout() -> None:
    async with system() as s:
        ref = await s.start_child(child("a"))
        for timeout in (-1.0, math.nan, -math.inf, None, "3", Decimal(3)):
            with pytest.raises(InvalidSpec, match="call to t/a: timeout must be at least 0 seconds, or inf"):
                await ref.call(Get(), timeout)  # pyright: ignore[reportArgumentType]
        assert (s.statistics().timers, ref.statistics().queued) == (0, 0)
        await answers(ref)


@seeded(seeds=1)
async def test_a_timeout_that_is_a_fraction() -> None:
    async with system() as s:
        ref = await s.start_child(child("a"))
        with pytest.raises(CallTimeout, match=r"no reply within 0\.5 s"):
            await ref.call(Nap(), Fraction(1, 2))  # pyright: ignore[reportArgumentType]
        await trio.sleep(1)
        await answers(ref)


@seeded()
async def test_a_reply_that_fails_with_what_cannot_be_raised() -> None:
    refused: list[str] = []

    class Fails(Counter):
        @handles(Defer)
        def defer(self, message: Defer) -> None:
            reply = self.context.defer_reply()
            for wrong in ("broken", Boom):
                with pytest.raises(
                    InvalidSpec, match="it takes an exception, made with its arguments, got"
                ) as caught:
                    reply.fail(wrong)  # pyright: ignore[reportArgumentType]
                refused.append(str(caught.value))
            reply.fail(Boom("as it should be"))

    async with system() as s:
        ref = await s.start_child(ChildSpec("a", Fails))
        with pytest.raises(Boom, match="as it should be"):
            await ref.call(Defer(), math.inf)
        assert refused[0].startswith("fail() of Defer to t/a")
        await answers(ref)


# ---- actors that are not there


@seeded()
async def test_a_stopped_actor() -> None:
    async with system() as s:
        ref = await s.start_child(child("a"))
        await s.stop_child("a")
        for send in (lambda: ref.call(Get()), lambda: ref.cast(Add())):
            with pytest.raises(ActorStopped, match="t/a is not running: stopped; shutdown"):
                await send()
        with pytest.raises(ActorStopped):
            ref.cast_nowait(Add())
        await s.restart_child("a")
        assert await ref.call(Get()) == 0


@seeded()
async def test_an_actor_that_was_never_started() -> None:
    async with system() as s:
        # Its start has failed.
        def fail(counter: Counter) -> None:
            refs.append(counter.context.ref)
            raise Boom

        refs: list[ActorRef] = []
        with pytest.raises(Boom):
            await s.start_child(child("failed", on_init=fail))
        with pytest.raises(ActorStopped, match="t/failed is not running: stopped"):
            await refs[0].call(Get())

        # Its start has not begun.
        def make() -> Counter:
            early = s.child("a")
            assert isinstance(early, ActorRef)
            with pytest.raises(NotRunning, match=r"t/a is not running: starting; .*start_child\(\) has returned"):
                early.cast_nowait(Add())
            refs.append(early)
            return Counter()

        await s.start_child(ChildSpec("a", make))
        await answers(refs[1])


@seeded(seeds=1)
async def test_an_actor_without_a_place() -> None:
    class Lock(StateMachine[Literal["shut", "open"]]):
        initial = "shut"
        states = ("shut", "open")

        @in_state("shut")
        @handles(Add)
        def add(self, message: Add) -> None:
            self.goto("open")

    says = r"Counter \(an actor without a place\) is not running: no system has started it; make it with `await"
    for use in (lambda: Counter().context.ref, lambda: Counter().context.random):
        with pytest.raises(NotRunning, match=says):
            use()
    with pytest.raises(SupervisionError, match=r"Lock: goto\(\) belongs in init\(\) or in a handler"):
        Lock().goto("open")
    async with system() as s:
        await answers(await s.start_child(child("a")))


@seeded()
async def test_a_supervisor_outside_of_a_system() -> None:
    with pytest.raises(InvalidSpec, match=r"ChildSpec 'a': factory must be callable, got SupervisorSpec"):
        ChildSpec("a", SupervisorSpec("inner"))  # type: ignore[arg-type]
    async with system() as s:
        with pytest.raises(InvalidSpec, match="t/b: the factory must return an Actor, it returned SupervisorSpec"):
            await s.start_child(ChildSpec("b", lambda: SupervisorSpec("inner")))  # type: ignore[arg-type,return-value]
        inner = await s.start_child(SupervisorSpec("inner"))
        ref = await inner.start_child(child("a"))
        await answers(ref)
    for use in (
        lambda: inner.start_child(child("c")),
        lambda: inner.restart_child("a"),
        lambda: s.start_child(child("c")),
        lambda: ref.call(Get()),
    ):
        with pytest.raises(NotRunning, match=r"t(/inner(/a)?)? is not running: stopped"):
            await use()


# ---- names and specs


@seeded()
async def test_a_taken_name() -> None:
    async with system() as s:
        first = await s.start_child(child("a"))
        second = await s.start_child(child("b"))
        s.registry.register("counter", first)
        with pytest.raises(NameTaken, match="counter"):
            s.registry.register("counter", second)
        assert s.registry.whereis("counter") == first
        with pytest.raises(NameTaken, match="t has a child 'a' already; stop it first, or choose another name"):
            await s.start_child(child("a"))
        await answers(first)
        await answers(second)


@seeded(seeds=1)
async def test_a_negative_grace() -> None:
    async with system() as s:
        ref = await s.start_child(child("a"))
        for grace in (-1.0, -math.inf, math.nan):
            with pytest.raises(InvalidSpec, match="ChildSpec 'b': shutdown must be at least 0 seconds, or inf, got"):
                await s.start_child(child("b", shutdown=grace))
            with pytest.raises(InvalidSpec, match="SupervisorSpec 'b': shutdown must be at least 0 seconds"):
                await s.start_child(SupervisorSpec("b", shutdown=grace))
        assert list(s.children()) == ["a"]
        await answers(ref)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["undeclared", "kind", "wrong", "twice", "self", "timeout", "good", "cast"]), max_size=12
    ),
    st.integers(0, 2**32 - 1),
)
def test_whatever_is_done_wrong_the_actor_lives_on(mistakes: list[str], seed: int) -> None:
    """Any mistakes in any order, from many callers at once: each gets its own error, and the count is right."""

    class Twice(Call[int], frozen=True):
        pass

    class Self(Call[int], frozen=True):
        pass

    class Victim(Liar):
        @handles(Twice)
        def twice(self, message: Twice) -> None:
            reply = self.context.defer_reply()
            reply.send(1)
            reply.send(2)

        @handles(Self)
        async def myself(self, message: Self) -> int:
            return await self.context.ref.call(Get())

    class Careful(Victim):
        @handles(Twice)
        def twice(self, message: Twice) -> None:
            with pytest.raises(AlreadyReplied):
                super().twice(message)

        @handles(Self)
        async def myself(self, message: Self) -> int:
            with pytest.raises(CallCycle):
                await super().myself(message)
            return 1

    expected: dict[str, tuple[type[Exception], Callable[[ActorRef], Any]]] = {
        "undeclared": (UnknownMessage, lambda ref: ref.call(Unasked())),
        "kind": (WrongMessageKind, lambda ref: ref.call(Add())),  # type: ignore[arg-type]
        "wrong": (WrongReply, lambda ref: ref.call(Size())),
        "timeout": (InvalidSpec, lambda ref: ref.call(Get(), timeout=-1)),
    }

    async def run() -> None:
        log = Log()

        async def make(s: ActorSystem, mistake: str) -> None:
            if mistake in expected:
                kind, use = expected[mistake]
                with pytest.raises(kind):
                    await use(ref)
            elif mistake == "cast":
                await ref.cast(Add())
            else:
                message = {"twice": Twice(), "self": Self()}.get(mistake, Get())
                assert isinstance(await ref.call(message), int)

        async with strict(log) as s:
            ref = await s.start_child(ChildSpec("a", lambda: Careful(lie)))
            async with trio.open_nursery() as nursery:
                for mistake in mistakes:
                    nursery.start_soon(make, s, mistake)
            assert await ref.call(Get()) == mistakes.count("cast")
            await answers(ref)
            events: list[Event] = log.seen(ReplyRefused)
            assert len(events) == mistakes.count("wrong")
            await settle()

    run_seeded(run, seed=seed)
