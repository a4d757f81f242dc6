"""The start handshake."""

from __future__ import annotations

import contextvars

import pytest
import trio

from supervision import (
    Actor,
    ActorRef,
    ChildNotFound,
    DynamicSupervisorSpec,
    InvalidSpec,
    NameTaken,
    NotRunning,
    SupervisorSpec,
    TooManyChildren,
)
from tests.supervision.world import Boom, Counter, Get, Log, child, seeded, settle, system


@seeded()
async def test_start_child_returns_after_init() -> None:
    log = Log()

    async def slow(_: Counter) -> None:
        await trio.sleep(3)

    async with system(log) as s:
        before = trio.current_time()
        await s.start_child(child("a", log, on_init=slow))
        assert trio.current_time() - before == pytest.approx(3)
        assert log.of("init") == [("a", 1)]


@seeded()
async def test_start_child_raises_what_init_raised() -> None:
    error = Boom("in init")

    def fail(_: Counter) -> None:
        raise error

    log = Log()
    async with system(log) as s:
        with pytest.raises(Boom) as caught:
            await s.start_child(child("a", log, on_init=fail))
        assert caught.value is error
        assert caught.value.__traceback__ is not None
        assert s.children() == {}
        await s.start_child(child("a", log))  # the name is free
        assert log.of("terminate") == []


@seeded()
async def test_a_failing_factory_is_a_failing_start() -> None:
    def factory() -> Actor:
        raise Boom("in the factory")

    async with system() as s:
        spec = child("a")
        with pytest.raises(Boom):
            await s.start_child(type(spec)("a", factory))
        with pytest.raises(InvalidSpec, match="must return an Actor"):
            await s.start_child(type(spec)("a", lambda: 3))  # type: ignore[arg-type, return-value]
        assert s.children() == {}


@seeded()
async def test_a_cancelled_start_leaves_nothing() -> None:
    log = Log()
    ended: list[float] = []

    async def slow(_: Counter) -> None:
        try:
            await trio.sleep(100)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            ended.append(trio.current_time())

    async with system(log) as s:
        with trio.move_on_after(5) as scope:
            await s.start_child(child("a", log, on_init=slow))
        assert scope.cancelled_caught
        # start_child came back only when init() was really over
        assert ended == [trio.current_time()]
        assert s.children() == {}
        assert s.statistics().actors == 0
        assert log.of("init") == log.of("terminate") == []
        await s.start_child(child("a", log))


@seeded()
async def test_a_stop_while_the_task_has_not_begun_cuts_init() -> None:
    async def slow(_: Counter) -> None:
        await trio.sleep(1000)

    async with system() as s:
        before = trio.current_time()
        with trio.CancelScope() as scope:
            scope.cancel()
            await s.start_child(child("a", on_init=slow))
        assert scope.cancelled_caught
        assert trio.current_time() == before
        assert s.children() == {}


@seeded()
async def test_init_that_ignores_the_cancelled_start_is_terminated() -> None:
    log = Log()

    async def stubborn(_: Counter) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(10)

    async with system(log) as s:
        with trio.move_on_after(5):
            await s.start_child(child("a", log, on_init=stubborn))
        assert s.children() == {}
        assert log.of("init") == [("a", 1)]
        assert [line[:3] for line in log.of("terminate")] == [("a", 1, "cancelled")]


@seeded()
async def test_a_supervisors_start_is_all_or_nothing() -> None:
    log = Log()

    def fail(_: Counter) -> None:
        raise Boom("c does not start")

    async with system(log) as s:
        with pytest.raises(Boom, match="c does not start"):
            await s.start_child(
                SupervisorSpec("g", children=[child("a", log), child("b", log), child("c", log, on_init=fail)])
            )
        assert s.children() == {}
        assert s.statistics().actors == 0
        assert [line[0] for line in log.of("init")] == ["a", "b"]
        assert [line[0] for line in log.of("terminate")] == ["b", "a"]


@seeded()
async def test_names_and_limits() -> None:
    async with system() as s:
        ref = await s.start_child(child("a"))
        assert isinstance(ref, ActorRef)
        with pytest.raises(NameTaken, match="t has a child 'a' already"):
            await s.start_child(child("a"))
        with pytest.raises(ChildNotFound, match="no child 'z'"):
            s.child("z")
        with pytest.raises(ChildNotFound):
            await s.stop_child("z")
        with pytest.raises(InvalidSpec, match="takes a ChildSpec"):
            await s.start_child("a")  # type: ignore[call-overload]
        d = await s.start_child(DynamicSupervisorSpec("d", max_children=1))
        await d.start_child(child("a"))
        with pytest.raises(TooManyChildren, match="max_children is 1"):
            await d.start_child(child("b"))
        await d.stop_child("a")
        await d.start_child(child("b"))
        assert s.child("a") == ref


def test_start_after_the_system_has_ended() -> None:
    @seeded(seeds=1)
    async def run() -> None:
        async with system() as s:
            d = await s.start_child(DynamicSupervisorSpec("d"))
        with pytest.raises(NotRunning, match="stopped"):
            await s.start_child(child("a"))
        with pytest.raises(NotRunning, match="stopped"):
            await d.start_child(child("a"))

    run()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"shutdown": -1}, "shutdown must be at least 0"),
        ({"restart": "sometimes"}, "restart is permanent, transient or temporary"),
        ({"max_restarts": 3}, "give max_restarts and max_seconds together"),
        ({"max_restarts": -1, "max_seconds": 1}, "max_restarts must not be negative"),
        ({"max_restarts": 1, "max_seconds": 0}, "max_seconds must be above 0"),
    ],
)
def test_bad_specs(options: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidSpec, match=text):
        child("a", **options)


def test_bad_names_and_supervisors() -> None:
    for name in ("", "a/b"):
        with pytest.raises(InvalidSpec, match="name must not be empty"):
            child(name)
    with pytest.raises(InvalidSpec, match="names must differ"):
        SupervisorSpec("g", children=[child("a"), child("a")])
    with pytest.raises(InvalidSpec, match="strategy is"):
        SupervisorSpec("g", strategy="all")  # type: ignore[arg-type]
    with pytest.raises(InvalidSpec, match="on_intensity is"):
        DynamicSupervisorSpec("g", on_intensity="shrug")  # type: ignore[arg-type]
    with pytest.raises(InvalidSpec, match="max_children"):
        DynamicSupervisorSpec("g", max_children=0)


@seeded()
async def test_context_variables_of_the_starter_do_not_leak_in() -> None:
    variable = contextvars.ContextVar("variable", default="clean")
    seen: list[str] = []

    def look(_: Counter) -> None:
        seen.append(variable.get())
        variable.set("set by an incarnation")

    async with system() as s:
        variable.set("of the client")
        ref = await s.start_child(child("a", on_init=look))
        from tests.supervision.world import Crash

        await ref.cast(Crash())
        await ref.call(Get())
        await settle()
    assert seen == ["clean", "clean"]
