"""Bad use: a typed error at whoever is wrong, which says what to do, and an actor that answers as before."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Generic, Literal, NewType, Protocol, TypedDict, TypeVar

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision import (
    Actor,
    ActorRef,
    ActorStopped,
    ActorSystem,
    AlreadyReplied,
    Call,
    CallCycle,
    CallTimeout,
    Cast,
    ChildSpec,
    Event,
    InvalidSpec,
    LateReply,
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
from tests.supervision.world import NOW, Add, Boom, Counter, Defer, Get, Log, Nap, child, seeded, settle, system


class Unheard(Cast, frozen=True):
    """Nobody handles it."""


class Unasked(Call[int], frozen=True):
    """Nobody handles it."""


async def answers(ref: ActorRef) -> None:
    """The very incarnation that was there before."""
    assert ref.statistics().incarnation == 1
    assert isinstance(await ref.call(Get()), int)


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


# ---- strict replies


class Size(Call[int], frozen=True):
    """Whatever `answer` makes of it."""


class Sizes(Size, frozen=True):
    """A subclass: its base's handler, its base's R."""


class Liar(Counter):
    """Answers Size with what it is told to."""

    def __init__(self, answer: Callable[[Liar], Any]) -> None:
        super().__init__()
        self.answer = answer

    @handles(Size)
    def size(self, message: Size) -> Any:
        return self.answer(self)


def lie(_: Liar) -> str:
    return "big"


async def lie_later(_: Liar) -> str:
    await trio.sleep(1)
    return "big"


def lie_by_reply(liar: Liar) -> None:
    reply = liar.context.defer_reply()

    async def later() -> None:
        assert reply.send("big") is False

    liar.context.start_task(later)


def forget(_: Liar) -> None:
    return None


def strict(log: Log) -> Any:
    return system(log, strict_replies=True)


@seeded()
async def test_a_reply_of_the_wrong_type() -> None:
    for lying in (lie, lie_later, lie_by_reply, forget):
        log = Log()
        async with strict(log) as s:
            ref = await s.start_child(ChildSpec("a", lambda lying=lying: Liar(lying), backoff=NOW))
            for message in (Size(), Sizes()):
                given = "NoneType" if lying is forget else "str"
                name = type(message).__qualname__
                says = f"t/a has answered {name} with a {given}, where it declares int; mend what its handler returns"
                with pytest.raises(WrongReply, match=says) as caught:
                    await ref.call(message)
                assert (caught.value.target, caught.value.message, caught.value.declared) == ("t/a", message, "int")
            assert [(event.path, event.message) for event in log.seen(ReplyRefused)] == [
                ("t/a", Size()),
                ("t/a", Sizes()),
            ]
            assert log.seen(LateReply) == []
            await answers(ref)


@seeded()
async def test_right_replies_and_those_of_others_pass() -> None:
    class Machine(StateMachine[Literal["one"]]):
        initial = "one"
        states = ("one",)

        @handles(Get)
        def get(self, message: Get) -> Any:
            return "two"

    log = Log()
    async with strict(log) as s:
        ref = await s.start_child(ChildSpec("a", lambda: Liar(lambda liar: 7)))
        assert await ref.call(Size()) == 7
        assert await ref.call(Nap()) == "rested"
        await ref.cast(Add())
        deferring = await s.start_child(child("d"))
        assert await deferring.call(Defer()) == "later"
        machine = await s.start_child(ChildSpec("m", Machine))
        with pytest.raises(WrongReply, match="t/m"):
            await machine.call(Get())
        assert len(log.seen(ReplyRefused)) == 1
    async with system() as s:  # who has not asked for it is not told
        ref = await s.start_child(ChildSpec("a", lambda: Liar(lie)))
        assert await ref.call(Size()) == "big"  # type: ignore[comparison-overlap]
        assert ref.place.handlers is Liar.__handlers__


@seeded()
async def test_a_wrong_reply_whose_caller_has_left() -> None:
    log = Log()
    async with strict(log) as s:
        ref = await s.start_child(ChildSpec("a", lambda: Liar(lie_later)))
        with trio.move_on_after(0.5):
            await ref.call(Size())
        await trio.sleep(1)
        assert (len(log.seen(ReplyRefused)), len(log.seen(LateReply))) == (1, 1)
        await answers(ref)


T = TypeVar("T")
UserId = NewType("UserId", int)


class HasClose(Protocol):
    def close(self) -> None: ...


class Row(TypedDict):
    name: str


class Of(Call[T], Generic[T], frozen=True):
    """R by parameter."""


class Known(Actor):
    pass


KINDS: list[tuple[Any, list[Any], list[Any]]] = [
    # R, what passes, what doesn't
    (int, [1, True], ["1", 1.0, None]),
    (float, [1.0, 1], ["1", 1j]),
    (complex, [1j, 1.0, 1], ["1"]),
    (None, [None], [0, ""]),
    (list[int], [[1], ["unchecked"], []], [(1,), None]),
    (dict[str, int], [{}], [[]]),
    (tuple[int, str], [(1, "a"), ()], [[1, "a"]]),
    (Sequence[int], [[1], (1,)], [{1}, 1]),
    (int | None, [1, None], ["1"]),
    (Literal["a", 1], ["a", 1], ["b", True, 1.0]),
    (Literal["a"] | None, ["a", None], ["b"]),
    (Annotated[int, "metres"], [1], ["1"]),
    (UserId, [1], ["1"]),
    (Row, [{"name": "x"}], [["x"]]),
    (type[Actor], [Known], [Known()]),
    (Callable[[int], int], [len], [1]),
    (Any, [1, None], []),
    (object, [1, None], []),
    (HasClose, [1, None], []),
    ("Known", [Known()], [1]),
]


@pytest.mark.parametrize(("declared", "right", "wrong"), KINDS, ids=lambda value: str(value)[:30])
def test_what_passes_for_which_type(declared: Any, right: list[Any], wrong: list[Any]) -> None:
    class Direct(Call[declared], frozen=True):  # type: ignore[valid-type]
        pass

    class Indirect(Of[declared], frozen=True):  # type: ignore[valid-type]
        pass

    class Below(Indirect, frozen=True):
        pass

    async def run() -> None:
        answer: list[Any] = [None]

        class Says(Actor):
            @handles(Direct)
            @handles(Indirect)
            def say(self, message: Any) -> Any:
                return answer[0]

        async with strict(Log()) as s:
            ref = await s.start_child(ChildSpec("a", Says))
            for message in (Direct(), Indirect(), Below()):
                for answer[0] in right:
                    assert (await ref.call(message)) is answer[0]
                for answer[0] in wrong:
                    with pytest.raises(WrongReply):
                        await ref.call(message)

    run_seeded(run, seed=0)


@seeded(seeds=1)
async def test_a_declared_type_that_is_nowhere() -> None:
    class Lost(Call["Nowhere"], frozen=True):  # type: ignore[name-defined]
        pass

    class Loses(Actor):
        @handles(Lost)
        def lose(self, message: Lost) -> Any:
            return 1

    async with strict(Log()) as s:
        with pytest.raises(InvalidSpec, match=r"Lost declares the reply ForwardRef\('Nowhere'\), .*import it there"):
            await s.start_child(ChildSpec("a", Loses))
        assert s.children() == {}


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
