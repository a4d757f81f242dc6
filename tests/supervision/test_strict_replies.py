"""With strict_replies a reply that is not of the declared type is the caller's error, and ends nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, Literal, NewType, Protocol, TypedDict, TypeVar

import pytest
import trio

from supervision import (
    Actor,
    Call,
    ChildSpec,
    InvalidSpec,
    LateReply,
    ReplyRefused,
    StateMachine,
    WrongReply,
    handles,
)
from supervision.testing import run_seeded
from tests.supervision.liars import Liar, Size, Sizes, answers, lie, strict
from tests.supervision.world import NOW, Add, Defer, Get, Log, Nap, child, seeded, system


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
