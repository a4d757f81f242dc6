"""What makes no sense is said where it is written, not by the first crash that needs it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

import pytest

from supervision import (
    Actor,
    Backoff,
    Call,
    Cast,
    ChildSpec,
    DynamicSupervisorSpec,
    InvalidSpec,
    Mailbox,
    StateMachine,
    SupervisorSpec,
    TooManyChildren,
    handles,
    open_system,
)
from tests.supervision.world import NOW, Counter, Crash, Get, Log, child, seeded, settle, system

T = TypeVar("T")


def spec(**options: Any) -> ChildSpec:
    return ChildSpec("a", Counter, **options)


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "a name": (lambda: ChildSpec(5, Counter), "a name must not be empty and must not contain '/', got 5"),  # type: ignore[arg-type]
    "no grace": (lambda: spec(shutdown=None), "'a': shutdown must be at least 0 seconds, or inf, got None"),
    "no backoff": (lambda: spec(backoff=None), "'a': backoff must be a Backoff, got None"),
    "no mailbox": (lambda: spec(mailbox=10), "'a': mailbox must be a Mailbox, got 10"),
    "a hook": (lambda: spec(on_close="later"), "'a': on_close must be callable, or None, got 'later'"),
    "a hibernation": (lambda: spec(hibernate_after="1"), "hibernate_after must be above 0 seconds"),
    "an alarm": (lambda: spec(busy_alarm="1"), "busy_alarm must be above 0 seconds"),
    "a child's intensity": (
        lambda: spec(max_restarts=1.5, max_seconds=1),
        "max_restarts must not be negative, and be a whole number",
    ),
    "no intensity": (
        lambda: SupervisorSpec("s", max_restarts=math.nan),
        "max_restarts must not be negative, and be a whole number",
    ),  # type: ignore[arg-type]
    "no window": (lambda: SupervisorSpec("s", max_seconds=None), "max_seconds must be above 0, got None"),  # type: ignore[arg-type]
    "a supervisor's backoff": (lambda: SupervisorSpec("s", backoff=3), "'s': backoff must be a Backoff, got 3"),  # type: ignore[arg-type]
    "a class as a child": (
        lambda: SupervisorSpec("s", children=[Counter]),  # type: ignore[list-item]
        "children must be ChildSpecs or supervisors' specs, got <class",
    ),
    "a child alone": (lambda: SupervisorSpec("s", children=spec()), "children must be a sequence, got ChildSpec"),  # type: ignore[arg-type]
    "half a child": (lambda: DynamicSupervisorSpec("d", max_children=1.5), "max_children must be a whole number"),  # type: ignore[arg-type]
    "no capacity": (lambda: Mailbox(capacity=None), "capacity must be a whole number of at least 0 or inf, got None"),  # type: ignore[arg-type]
    "no delay": (lambda: Backoff(initial=None), "need 0 <= initial <= maximum < inf, got initial=None"),  # type: ignore[arg-type]
    "no factor": (lambda: Backoff(factor="2"), "factor must be at least 1 and finite"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_spec_that_makes_no_sense_is_not_made(mistake: str) -> None:
    make, text = MISTAKES[mistake]
    with pytest.raises(InvalidSpec) as caught:
        make()
    assert text in str(caught.value)


def test_what_makes_sense_is_made() -> None:
    assert SupervisorSpec("s", children=(spec(),), max_restarts=math.inf).max_restarts == math.inf  # type: ignore[arg-type]
    assert Mailbox(capacity=2.0).capacity == 2
    assert Backoff(initial=0, maximum=0) == NOW


@seeded(seeds=1)
async def test_a_system_needs_a_generator() -> None:
    for wrong in (None, 42, random):
        with pytest.raises(InvalidSpec, match="open_system: random must be a generator"):
            async with open_system("t", random=wrong):  # type: ignore[arg-type]
                raise AssertionError("it has begun")


@pytest.mark.parametrize("times", [-1, 1.5, None, "2"])
def test_a_message_is_redelivered_a_number_of_times(times: Any) -> None:
    with pytest.raises(InvalidSpec, match="redeliver must be a whole number of times, got"):
        type("Again", (Cast,), {"redeliver": times}, frozen=True)


@seeded(seeds=1)
async def test_a_registry_knows_the_actors_of_its_own_system_only() -> None:
    async with system() as ours, open_system("u", random=random.Random(1)) as theirs:
        ref = await theirs.start_child(child("a"))
        with pytest.raises(InvalidSpec, match="u/a can't have the name 'x' here: it lives in another system"):
            ours.registry.register("x", ref)
        with pytest.raises(InvalidSpec, match="u/a can't join the group 'g' here"):
            ours.registry.join("g", ref)
        pool = await ours.start_child(SupervisorSpec("pool"))
        with pytest.raises(InvalidSpec, match="pool> can't have the name 'x': the registry knows actors only"):
            ours.registry.register("x", pool)  # type: ignore[arg-type]
        assert (ours.registry.names, ours.registry.groups) == ({}, {})
        theirs.registry.register("x", ref)
        await theirs.stop_child("a")
        assert theirs.registry.names == {}


@seeded(seeds=1)
async def test_one_child_too_many_costs_no_other_its_record() -> None:
    log = Log()
    async with system(log) as s:
        pool = await s.start_child(DynamicSupervisorSpec("pool", max_children=1))
        ref = await pool.start_child(child("a", log, max_restarts=0, max_seconds=1))
        await ref.cast(Crash())
        await settle()
        other = await pool.start_child(child("b", log))
        with pytest.raises(TooManyChildren, match="max_children is 1, 1 live"):
            await pool.start_child(child("a", log))
        assert {name: ref.state for name, ref in pool.children().items()} == {"a": "degraded", "b": "running"}
        await pool.stop_child("b")
        await pool.restart_child("a")
        assert await ref.call(Get()) == 0
        assert other.state == "stopped"


@seeded(seeds=1)
async def test_an_actor_lives_at_one_place() -> None:
    one = Counter()
    async with system() as s:
        first = await s.start_child(ChildSpec("a", lambda: one, backoff=NOW))
        with pytest.raises(InvalidSpec, match=r"t/b: the factory must make a new actor each time, it .* one at t/a"):
            await s.start_child(ChildSpec("b", lambda: one))
        assert one.context.path == "t/a"
        assert await first.call(Get()) == 0
        await s.stop_child("a")
        await s.start_child(ChildSpec("b", lambda: one))
        assert one.context.path == "t/b"


class Box(Call[T], Generic[T], frozen=True):
    item: T


def test_a_handler_that_would_never_run_is_said_when_its_class_is_made() -> None:
    with pytest.raises(InvalidSpec, match="Streams: get is a generator: a handler returns its reply, it can't yield"):

        class Streams(Actor):
            @handles(Get)
            async def get(self, message: Get) -> Any:
                yield 1

    with pytest.raises(InvalidSpec, match="Overrides: get is a generator"):

        class Overrides(Counter):
            def get(self, message: Get) -> Any:
                yield 1

    with pytest.raises(InvalidSpec, match="Machine: get is a generator"):

        class Machine(StateMachine[Literal["on"]]):
            initial = "on"
            states = ("on",)

            @handles(Get)
            def get(self, message: Get) -> Any:
                yield 1

    with pytest.raises(InvalidSpec, match=r"Box\[int\] has its parameters; name it without them: Box"):
        handles(Box[int])
