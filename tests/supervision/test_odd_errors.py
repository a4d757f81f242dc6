"""Errors that can't be shown, compared or walked through: to a supervisor they are crashes like all others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Self

import pytest
import trio

from supervision import (
    Actor,
    ActorCrashed,
    ActorDown,
    Cast,
    ChildSpec,
    IntensityExceeded,
    StopReason,
    handles,
)
from supervision.errors import describe_error
from supervision.testing import run_seeded
from tests.supervision.world import NOW, Counter, Crash, CrashCall, Get, Log, child, settle, system


class Mute(Exception):
    """Its text, its repr and its comparison raise."""

    def __str__(self) -> str:
        raise LookupError("no text")

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        raise LookupError("no comparison")

    __hash__ = None  # pyright: ignore[reportAssignmentType]


class OwnGroup(ExceptionGroup[Exception]):
    """A group that keeps no arguments."""

    def __new__(cls, *, errors: list[Exception]) -> Self:
        return super().__new__(cls, "of its own", errors)

    def __init__(self, *, errors: list[Exception]) -> None:
        super().__init__()


def long_chain() -> Exception:
    error = ValueError("the first")
    for number in range(5000):
        later = ValueError(f"retry {number}")
        later.__context__ = error
        error = later
    return error


def deep_group(depth: int) -> Exception:
    error: Exception = ValueError("innermost")
    for _ in range(depth):
        error = ExceptionGroup("around", [error])
    return error


ODD: dict[str, Callable[[], Exception]] = {
    "no text": Mute,
    "no text in a group": lambda: ExceptionGroup("both", [Mute(), ValueError()]),
    "a group without arguments": lambda: OwnGroup(errors=[ValueError("x")]),
    "a chain of 5000": long_chain,
    "groups 500 deep": partial(deep_group, 500),
}


class Tell(Cast, frozen=True):
    """Raise from a task of one's own."""


class Odd(Actor):
    """Raises what it was given, wherever that is asked for."""

    def __init__(self, make: Callable[[], Exception], log: Log, failing: set[str]) -> None:
        self.make = make
        self.log = log
        self.failing = failing

    async def init(self) -> None:
        if "init" in self.failing:
            self.failing.discard("init")
            raise self.make()

    async def terminate(self, reason: StopReason) -> None:
        self.log.add("ended", str(reason))
        if "terminate" in self.failing:
            raise self.make()

    @handles(Crash)
    def crash(self, message: Crash) -> None:
        raise self.make()

    @handles(CrashCall)
    def crash_call(self, message: CrashCall) -> int:
        raise self.make()

    @handles(Tell)
    def tell(self, message: Tell) -> None:
        async def fail() -> None:
            raise self.make()

        self.context.start_task(fail)

    @handles(Get)
    def get(self, message: Get) -> int:
        return self.context.incarnation


@pytest.mark.parametrize("kind", ODD)
def test_an_error_that_cannot_be_shown_is_a_crash_like_any_other(kind: str) -> None:
    make = ODD[kind]

    async def main() -> None:
        log = Log()
        failing: set[str] = set()
        async with system(log) as s:
            ref = await s.start_child(ChildSpec("odd", lambda: Odd(make, log, failing), backoff=NOW))
            linked = await s.start_child(child("linked", log, on_init=lambda actor: actor.context.link(ref)))
            with pytest.raises(ActorDown, match="odd went down"):
                await ref.call(CrashCall())
            assert await ref.call(Get()) == 2
            assert linked.statistics().incarnation == 2
            await ref.cast(Tell())
            await settle()
            failing.add("init")
            await ref.cast(Crash())
            await settle()
            assert await ref.call(Get()) == 5
            failing.add("terminate")
            await ref.cast(Crash())
            await settle()
            assert await ref.call(Get()) == 6
            assert "odd" in str(s.tree())
            crashes = [event.crash for event in log.seen(ActorCrashed) if event.path == "t/odd"]
            assert len(crashes) == 6
            assert all(type(crash.error) is type(make()) and crash.render() for crash in crashes)
        assert [text.partition(":")[0] for (text,) in log.of("ended")] == [*["crash"] * 4, "shutdown"]

    run_seeded(main, seed=1, limit=1e4)


@pytest.mark.parametrize("kind", ODD)
def test_it_goes_up_the_tree_as_any_other(kind: str) -> None:
    make = ODD[kind]

    async def main() -> None:
        log = Log()
        with pytest.raises(IntensityExceeded, match="more than 1 restarts"):
            async with system(log, max_restarts=1) as s:
                ref = await s.start_child(ChildSpec("odd", lambda: Odd(make, log, set()), backoff=NOW))
                for _ in range(2):
                    await ref.cast(Crash())
                    await settle()
                await trio.sleep_forever()

    run_seeded(main, seed=1, limit=1e4)


def test_the_text_of_an_error_says_what_it_can() -> None:
    assert describe_error(Mute()) == "Mute: (no text: its str() raised LookupError)"
    assert describe_error(OwnGroup(errors=[ValueError("x")])) == "OwnGroup: of its own [ValueError: x]"
    assert describe_error(deep_group(5000)).startswith("ExceptionGroup: around [ExceptionGroup: around [")


@pytest.mark.parametrize("where", ["init", "handler", "task", "terminate"])
def test_a_generator_exit_of_the_users_own_ends_the_system_in_order(where: str) -> None:
    log = Log()

    class Leaves(Counter):
        def leave(self, here: str) -> None:
            if where == here:
                raise GeneratorExit

        async def init(self) -> None:
            self.leave("init")
            await super().init()

        async def terminate(self, reason: StopReason) -> None:
            await super().terminate(reason)
            self.leave("terminate")

        @handles(Tell)
        async def tell(self, message: Tell) -> None:
            async def in_a_task() -> None:
                self.leave("task")

            self.leave("handler")
            self.context.start_task(in_a_task)
            self.context.stop()

    async def main() -> None:
        async with system(log) as s:
            await s.start_child(child("first", log))
            ref = await s.start_child(ChildSpec("leaves", lambda: Leaves(log), restart="transient"))
            await ref.cast(Tell())
            await trio.sleep_forever()

    with pytest.raises(GeneratorExit):
        run_seeded(main, seed=1, limit=1e4)
    assert sorted(line[:2] for line in log.of("terminate")) == sorted(log.of("init"))
