"""Groups: who is a member, through restarts and ends, and what a message to all of them does."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision import (
    Actor,
    ActorRef,
    ActorStopped,
    ChildSpec,
    DynamicSupervisorSpec,
    InvalidSpec,
    Mailbox,
    MailboxFull,
    NotRunning,
    PlaceClosed,
    Registry,
    SupervisionError,
    UnknownMessage,
)
from supervision.testing import InjectedFault, cancel_sweep, run_seeded
from tests.supervision.world import NOW, Add, Counter, Crash, Get, Log, Nap, Quit, child, seeded, settle, system


@seeded()
async def test_members_stay_through_restarts_in_the_order_in_which_they_joined() -> None:
    async with system() as s:

        def join(counter: Counter) -> None:
            counter.context.join("workers")  # each incarnation does, and nothing comes of it

        a = await s.start_child(child("a", on_init=join))
        b = await s.start_child(child("b"))
        s.registry.join("workers", b)
        s.registry.join("others", a)
        await a.cast(Crash())
        await a.call(Get())
        assert s.registry.members("workers") == (a, b)
        assert s.registry.groups == {"workers": (a, b), "others": (a,)}
        s.registry.leave("workers", a)
        s.registry.leave("workers", a)
        s.registry.leave("nobody's", a)
        assert s.registry.groups == {"workers": (b,), "others": (a,)}
        s.registry.join("workers", a)
        assert s.registry.members("workers") == (b, a)
        assert s.registry.members("nobody's") == ()


@seeded()
async def test_an_actor_leaves_by_itself() -> None:
    async with system() as s:

        def join_and_leave(counter: Counter) -> None:
            counter.context.join("g")
            counter.context.join("h")
            counter.context.leave("g")

        a = await s.start_child(child("a", on_init=join_and_leave))
        assert s.registry.groups == {"h": (a,)}


@seeded()
async def test_a_closed_place_is_in_no_group_before_anyone_can_know() -> None:
    seen: list[tuple[Any, ...]] = []
    async with system() as s:
        a = await s.start_child(child("a"))
        b = await s.start_child(child("b"))
        for ref in (a, b):
            s.registry.join("g", ref)
        a.monitor(lambda _: seen.append(s.registry.members("g")))
        s.events.subscribe(lambda event: isinstance(event, PlaceClosed) and seen.append(s.registry.members("g")))
        await s.stop_child("a")
        assert seen == [(b,), (b,)]
        with pytest.raises(ActorStopped, match="can't join the group 'g'"):
            s.registry.join("g", a)
        with pytest.raises(InvalidSpec, match="must not be empty"):
            s.registry.join("", b)
        await s.restart_child("a")  # a revived place is a new member, if it wants to be
        assert s.registry.members("g") == (b,)
    assert s.registry.groups == {}


class Deaf(Actor):
    """Handles nothing."""


@seeded()
async def test_publish_tells_everyone_and_says_who_refused() -> None:
    log = Log()
    async with system(log) as s:
        small = Mailbox(capacity=1)
        specs = [
            child("a", log),
            child("full", log, mailbox=small),
            ChildSpec("deaf", Deaf),
            child("waiting", log, mailbox=small),
            child("dropping", log, mailbox=Mailbox(capacity=1, when_full="drop_oldest")),
            child("z", log),
        ]
        refs = {spec.name: await s.start_child(spec) for spec in specs}
        for ref in refs.values():
            s.registry.join("g", ref)
        for name in ("full", "dropping"):
            await refs[name].cast(Add(1))
        published = s.registry.publish("g", Add(5))
        assert [ref.name for ref in published.delivered] == ["a", "waiting", "dropping", "z"]
        assert {ref.name: type(error) for ref, error in published.refused.items()} == {
            "full": MailboxFull,
            "deaf": UnknownMessage,
        }
        await settle()
        assert sorted(log.of("add")) == sorted([("full", 1)] + [(ref.name, 5) for ref in published.delivered])
        nobody = s.registry.publish("nobody's", Add())
        assert (nobody.delivered, nobody.refused) == ((), {})
        with pytest.raises(InvalidSpec, match="is no Cast"):
            s.registry.publish("g", Get())  # type: ignore[arg-type]


@seeded()
async def test_a_member_that_is_being_stopped_is_reported() -> None:
    async with system() as s:
        a = await s.start_child(child("a"))
        z = await s.start_child(child("z"))
        for ref in (a, z):
            s.registry.join("g", ref)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(z.call, Nap(1.0))
            await settle()
            nursery.start_soon(s.stop_child, "z")
            await settle()
            published = s.registry.publish("g", Add())
            assert published.delivered == (a,)
            assert {ref: isinstance(error, NotRunning) for ref, error in published.refused.items()} == {z: True}


@seeded(seeds=1)
async def test_the_tree_shows_groups() -> None:
    async with system() as s:
        a = await s.start_child(child("a"))
        for group in ("x", "y"):
            s.registry.join(group, a)
        assert a.statistics().groups == ("x", "y")
        assert s.tree().render().splitlines()[1].endswith("; in x, y")


class CountedPlace:
    """Stands for a place and its system, and counts how often it is looked for by comparing."""

    compared = 0
    closed = None

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    @property
    def system(self) -> CountedPlace:
        return self

    def __eq__(self, other: object) -> bool:
        CountedPlace.compared += 1
        return self is other

    def __hash__(self) -> int:
        return id(self) >> 4


def change(size: int) -> None:
    """`size` members of one group join, every other leaves and joins again, and all close."""
    registry = Registry()
    refs = [ActorRef(CountedPlace(registry)) for _ in range(size)]  # type: ignore[arg-type]
    for ref in refs:
        registry.join("g", ref)
    for ref in refs[::2]:
        registry.leave("g", ref)
        registry.join("g", ref)
    for ref in reversed(refs):
        registry.forget(ref.place)
    assert registry.groups == {}


def calls_per_member(size: int) -> float:
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        if event in {"call", "c_call"}:
            calls += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        change(size)
    finally:
        sys.setprofile(before)
    return calls / size


def test_a_member_costs_the_same_among_150000_as_among_10() -> None:
    assert calls_per_member(2000) <= calls_per_member(10) + 1
    CountedPlace.compared = 0
    change(150_000)
    assert CountedPlace.compared <= 150_000


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["join", "join", "join", "leave", "crash", "stop", "quit", "restart", "publish"]),
            st.sampled_from("abc"),
            st.sampled_from("gh"),
        ),
        max_size=30,
    ),
    st.integers(0, 2**32 - 1),
)
def test_groups_against_a_model(ops: list[tuple[str, str, str]], seed: int) -> None:
    """A list per group is the model: members living, in order of joining, across crashes; gone with the place."""

    async def run() -> None:
        log = Log()
        model: dict[str, list[str]] = {"g": [], "h": []}
        alive = set("abc")
        async with system(log) as s:
            refs = {name: await s.start_child(child(name, log, restart="transient")) for name in "abc"}
            for op, name, group in ops:
                ref = refs[name]
                if op == "join":
                    try:
                        s.registry.join(group, ref)
                    except ActorStopped:
                        assert name not in alive
                    else:
                        assert name in alive
                        if name not in model[group]:
                            model[group].append(name)
                elif op == "leave":
                    s.registry.leave(group, ref)
                    model[group] = [member for member in model[group] if member != name]
                elif op == "publish":
                    log.lines.clear()
                    published = s.registry.publish(group, Add())
                    assert [ref.name for ref in published.delivered] == model[group]
                    assert published.refused == {}
                    await settle()
                    assert sorted(line[0] for line in log.of("add")) == sorted(model[group])
                elif op == "restart":
                    await s.restart_child(name)
                    alive.add(name)
                else:
                    try:
                        if op == "stop":
                            await s.stop_child(name)
                        else:
                            await ref.cast(Crash() if op == "crash" else Quit())
                    except SupervisionError:
                        assert name not in alive
                    await settle()
                    if op != "crash":
                        alive.discard(name)
                        model = {key: [member for member in value if member != name] for key, value in model.items()}
                assert {key: tuple(refs[member] for member in value) for key, value in model.items() if value} == (
                    s.registry.groups
                )
                assert set(ref.statistics().groups) == {key for key, value in model.items() if name in value}
        assert s.registry.groups == {}

    run_seeded(run, seed=seed)


class Publishing:
    """Members come, crash and go while someone publishes; cut anywhere, nobody who is closed is a member."""

    def __init__(self) -> None:
        self.stale: list[str] = []

    async def run(self) -> None:
        def join(counter: Counter) -> None:
            counter.context.join("g")

        async with system() as s:
            self.registry = s.registry

            def look(_: object) -> None:
                self.stale += [ref.path for ref in s.registry.members("g") if ref.place.closed is not None]

            s.events.subscribe(look)
            d = await s.start_child(DynamicSupervisorSpec("d", max_restarts=100, backoff=NOW))
            try:
                refs = [await d.start_child(child(name, on_init=join)) for name in "abc"]
                s.registry.publish("g", Add())
                await refs[0].cast(Crash())
                await refs[0].call(Get())
                await d.stop_child("b")
                s.registry.publish("g", Crash())
                await refs[2].call(Get())
            except SupervisionError:
                pass  # an injected fault may end any call

    def check(self, error: BaseException | None) -> None:
        assert error is None or isinstance(error, InjectedFault)
        assert self.stale == []
        if hasattr(self, "registry"):
            assert self.registry.groups == {}


def test_membership_ends_with_the_place_at_every_step() -> None:
    assert cancel_sweep(Publishing, seeds=range(3)).runs > 100
