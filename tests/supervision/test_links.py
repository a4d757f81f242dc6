"""Links: who ends with whom, and who does not."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections import Counter as Tally
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision import (
    ActorCrashed,
    ActorDown,
    ActorEnded,
    ActorRef,
    ActorStopped,
    ActorSystem,
    Backoff,
    Cast,
    ChildSpec,
    DynamicSupervisorSpec,
    LinkBroken,
    NotRunning,
    StopReason,
    SupervisionError,
    SupervisorSpec,
    handles,
)
from supervision.incarnation import Incarnation
from supervision.testing import InjectedFault, cancel_sweep, run_seeded
from tests.supervision.world import NOW, Counter, Crash, Get, Log, Nap, Quit, child, seeded, settle, system


class Link(Cast, frozen=True):
    to: ActorRef


class Unlink(Cast, frozen=True):
    to: ActorRef


class Linker(Counter):
    """A counter that links on demand."""

    @handles(Link)
    def link(self, message: Link) -> None:
        try:
            self.context.link(message.to)
        except NotRunning as error:
            self.log.add("refused", self.context.name, str(error))

    @handles(Unlink)
    def unlink(self, message: Unlink) -> None:
        self.context.unlink(message.to)


def linker(name: str, log: Log, **options: Any) -> ChildSpec:
    options.setdefault("backoff", NOW)
    return ChildSpec(name, lambda: Linker(log), **options)


async def start(s: ActorSystem, log: Log, names: str, **options: Any) -> list[ActorRef]:
    return [await s.start_child(linker(name, log, **options)) for name in names]


async def tie(*pairs: tuple[ActorRef, ActorRef]) -> None:
    for one, other in pairs:
        await one.cast(Link(other))
    await settle()


def broken(log: Log) -> dict[str, LinkBroken]:
    """Who crashed by a link, and with what."""
    return {
        event.path: event.crash.error for event in log.seen(ActorCrashed) if event.crash.error_type == "LinkBroken"
    }


def lives(*refs: ActorRef) -> list[int]:
    return [ref.place.number for ref in refs]


@pytest.mark.parametrize("crashed", [0, 1])
def test_a_crash_at_either_end_crashes_the_other(crashed: int) -> None:
    @seeded()
    async def run() -> None:
        log = Log()
        async with system(log) as s:
            a, b, bystander = refs = await start(s, log, "abc")
            await tie((a, b))
            await refs[crashed].cast(Crash())
            await settle()
            assert lives(a, b, bystander) == [2, 2, 1]
            dead, other = refs[crashed], refs[1 - crashed]
            ((path, error),) = broken(log).items()
            assert path == other.path
            assert (error.other, error.incarnation, error.reason.kind) == (dead.path, 1, "crash")
            assert (error.first, str(error.first_reason)) == (f"{dead.path}#1", "crash: Boom: on demand")
            assert (
                str(error) == f"{other.path} was linked with {dead.path}#1, which went down: crash: Boom: on demand"
            )
            terminated = [line[0] for line in log.of("terminate")]
            assert terminated == [dead.name, other.name]
            await refs[crashed].cast(Crash())  # a link is between incarnations: the next ones are not linked
            await settle()
            assert sorted(lives(a, b)) == [2, 3]

    run()


@seeded()
async def test_a_killed_one_crashes_the_other_and_its_call_in_hand() -> None:
    log = Log()
    async with system(log) as s:
        a, b = await start(s, log, "ab", shutdown=1.0)
        await tie((a, b))
        async with trio.open_nursery() as nursery:

            async def nap(ref: ActorRef) -> None:
                with pytest.raises(ActorDown):
                    await ref.call(Nap(5.0), 10.0)

            nursery.start_soon(nap, a)
            nursery.start_soon(nap, b)
            await settle()
            await s.stop_child("a")
        await settle()
        assert broken(log)["t/b"].reason.kind == "killed"
        assert lives(b) == [2]


@pytest.mark.parametrize("end", ["quit", "stop", "restart"])
def test_an_end_in_order_breaks_the_link_silently(end: str) -> None:
    @seeded()
    async def run() -> None:
        log = Log()
        async with system(log) as s:
            a, b = await start(s, log, "ab")
            await tie((a, b))
            if end == "quit":
                await a.cast(Quit())
            elif end == "stop":
                await s.stop_child("a")
            else:
                await s.restart_child("a")
            await settle()
            assert broken(log) == {}
            assert b.place.life is not None
            assert not b.place.life.ends.links
            await b.cast(Crash())
            await settle()
            assert broken(log) == {}
            assert lives(b) == [2]

    run()


@seeded()
async def test_links_are_symmetrical_and_idempotent() -> None:
    log = Log()
    async with system(log) as s:
        a, b = await start(s, log, "ab")
        await tie((a, b), (a, b), (b, a), (a, a))
        await b.cast(Unlink(a))  # one is enough for all of them, from either side
        await b.cast(Unlink(a))
        await settle()
        await a.cast(Crash())
        await settle()
        assert lives(a, b) == [2, 1]
        await tie((a, b))
        await b.cast(Crash())
        await settle()
        assert lives(a, b) == [3, 2]


@seeded()
async def test_linking_with_nobody_is_an_error_at_the_caller() -> None:
    log = Log()
    async with system(log) as s:
        a, b, c = await start(s, log, "abc", backoff=Backoff(initial=1.0, jitter=0.0))
        await s.stop_child("b")
        await c.cast(Crash())
        await settle()
        await tie((a, b), (a, c))
        assert log.of("refused") == [
            ("a", "t/b is not running: stopped; t/a can link only with an incarnation that lives"),
            ("a", "t/c is not running: waiting; t/a can link only with an incarnation that lives"),
        ]
        await a.cast(Unlink(b))
        assert await a.call(Get()) == 0
        assert lives(a) == [1]


@seeded()
async def test_nobody_links_once_it_ends() -> None:
    log = Log()
    raised: list[type[Exception]] = []

    class Late(Linker):
        async def terminate(self, reason: StopReason) -> None:
            try:
                self.context.link(b)
            except ActorStopped as error:
                raised.append(type(error))
            await trio.sleep(1)

    async with system(log) as s:
        (b,) = await start(s, log, "b")
        late = await s.start_child(ChildSpec("late", lambda: Late(log), backoff=NOW))
        await late.cast(Quit())
        await settle()
        await b.cast(Link(late))
        await settle()
        assert raised == [ActorStopped]
        assert len(log.of("refused")) == 1
        ((_, text),) = log.of("refused")
        assert text.startswith("t/late is not running: ending")
        await trio.sleep(2)
        assert lives(b, late) == [1, 2]


@pytest.mark.parametrize("ring", [False, True])
def test_chains_and_rings_end_each_incarnation_once(ring: bool) -> None:
    @seeded(seeds=10)
    async def run() -> None:
        log = Log()
        async with system(log) as s:
            refs = await start(s, log, "abcde")
            await tie(*itertools.pairwise(refs))
            if ring:
                await tie((refs[-1], refs[0]))
            await refs[2].cast(Crash())
            await settle()
            assert lives(*refs) == [2] * 5
            ended = Tally(event.path for event in log.seen(ActorEnded))
            assert ended == {ref.path: 1 for ref in refs}
            errors = broken(log)
            assert set(errors) == {ref.path for ref in refs} - {"t/c"}
            assert {error.first for error in errors.values()} == {"t/c#1"}
            assert str(errors["t/a"]).endswith("by a link; it began with t/c#1: crash: Boom: on demand")

    run()


@seeded()
async def test_two_links_that_break_at_once_are_one_crash() -> None:
    log = Log()
    async with system(log) as s:
        a, b, c = await start(s, log, "abc")
        await tie((a, b), (c, b))
        a.cast_nowait(Crash())
        c.cast_nowait(Crash())
        await settle()
        assert lives(a, b, c) == [2, 2, 2]
        assert set(broken(log)) == {"t/b"}
        assert len(log.seen(ActorCrashed)) == 3


@seeded()
async def test_a_link_reaches_an_actor_that_starts() -> None:
    log = Log()
    async with system(log) as s:
        (a,) = await start(s, log, "a")

        async def link_and_wait(counter: Counter) -> None:
            counter.context.link(a)
            await trio.sleep(5)

        async with trio.open_nursery() as nursery:

            async def begin() -> None:
                with pytest.raises(LinkBroken, match="linked with t/a#1"):
                    await s.start_child(child("b", log, on_init=link_and_wait))

            nursery.start_soon(begin)
            await settle()
            await a.cast(Crash())
        assert list(s.children()) == ["a"]
        assert lives(a) == [2]


@seeded()
async def test_one_batch_counts_one_crash() -> None:
    """Whoever the strategy restarts anyway is not crashed by a link as well."""
    log = Log()
    async with system(log) as s:
        g = await s.start_child(
            SupervisorSpec(
                "g",
                strategy="one_for_all",
                max_restarts=1,
                children=[linker("a", log), linker("b", log)],
                backoff=NOW,
            )
        )
        a, b = (ref for ref in g.children().values() if isinstance(ref, ActorRef))
        await tie((a, b))
        await b.cast(Crash())
        await settle()
        assert (lives(a, b), g.place.number) == ([2, 2], 1)
        assert broken(log) == {}


@seeded()
async def test_nothing_is_crashed_during_shutdown() -> None:
    log = Log()
    async with system(log) as s:
        # b is stopped first, and killed; a has not been asked yet
        a, b = await start(s, log, "ab", shutdown=1.0)
        await tie((a, b))
        async with trio.open_nursery() as nursery:

            async def nap() -> None:
                with pytest.raises(ActorDown):
                    await b.call(Nap(5.0), 10.0)

            nursery.start_soon(nap)
            await settle()
            log.events.clear()
            s._system.root.request_stop("shutdown", 1e9, restarting=False)
    assert [(event.path, event.reason.kind) for event in log.seen(ActorEnded)] == [
        ("t/b", "killed"),
        ("t/a", "shutdown"),
        ("t", "shutdown"),
    ]
    assert broken(log) == {}


@seeded()
async def test_nothing_is_left_of_a_link() -> None:
    log = Log()
    made: list[weakref.ref[Any]] = []

    class Seen(Linker):
        async def init(self) -> None:
            made.append(weakref.ref(self))

    async with system(log) as s:
        a, b, c = [
            await s.start_child(ChildSpec(name, lambda: Seen(Log()), backoff=NOW, restart="transient"))
            for name in "abc"
        ]
        await tie((a, b), (b, c))
        await a.cast(Crash())
        await settle()
        assert lives(a, b, c) == [2, 2, 2]
        await tie((a, b), (a, c))
        await c.cast(Quit())
        await settle()
        log.events.clear()
        gc.collect()
        assert sum(ref() is not None for ref in made) == 2  # a#2 and b#2
        incarnations = [thing for thing in gc.get_objects() if type(thing) is Incarnation]
        mine = [life for life in incarnations if life.place.system is s._system]
        assert sorted((life.place.path, life.number) for life in mine) == [("t/a", 2), ("t/b", 2)]
        assert a.place.life is not None
        assert list(a.place.life.ends.links or ()) == [b.place.life]


@settings(deadline=None)
@given(
    st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=9),
    st.lists(
        st.tuples(
            st.sampled_from(["crash", "crash", "quit", "restart", "link", "unlink"]),
            st.integers(0, 5),
            st.integers(0, 5),
        ),
        min_size=1,
        max_size=10,
    ),
    st.integers(0, 2**32 - 1),
)
def test_links_against_a_graph(pairs: set[tuple[int, int]], ops: list[tuple[str, int, int]], seed: int) -> None:
    """The model is a graph of incarnations: a crash ends its component, once each; an ordered end its own node."""

    async def run() -> None:
        log = Log()
        edges: set[frozenset[int]] = set()
        numbers = [1] * 6
        async with system(log) as s:
            d = await s.start_child(DynamicSupervisorSpec("d", max_restarts=10_000, backoff=NOW))
            refs = [await d.start_child(linker(str(i), log)) for i in range(6)]
            for one, other in pairs:
                await tie((refs[one], refs[other]))
                edges.add(frozenset({one, other}))
            for op, one, other in ops:
                log.events.clear()
                if op == "link":
                    await refs[one].cast(Link(refs[other]))
                    edges.add(frozenset({one, other}))
                elif op == "unlink":
                    await refs[one].cast(Unlink(refs[other]))
                    edges.discard(frozenset({one, other}))
                else:
                    struck = {one}
                    if op == "crash":
                        while True:
                            wider = struck.union(*(edge for edge in edges if edge & struck))
                            if wider == struck:
                                break
                            struck = wider
                        await refs[one].cast(Crash())
                    elif op == "quit":
                        await refs[one].cast(Quit())
                    else:
                        await d.restart_child(str(one))
                    edges = {edge for edge in edges if not edge & struck}
                    for index in struck:
                        numbers[index] += 1
                await settle()
                assert lives(*refs) == numbers
                ends = [event.path for event in log.seen(ActorEnded)]
                assert len(ends) == len(set(ends))
                for index, ref in enumerate(refs):
                    life = ref.place.life
                    assert life is not None
                    linked = {refs.index(other.place.ref) for other in life.ends.links or ()}
                    assert linked == {
                        other for edge in edges if index in edge and len(edge) == 2 for other in edge - {index}
                    }

    run_seeded(run, seed=seed)


class Ring:
    """A ring of links is crashed, tied again and stopped, cut anywhere: each incarnation ends once."""

    def __init__(self) -> None:
        self.log = Log()

    async def run(self) -> None:
        async with system(self.log) as s:
            self.s = s
            d = await s.start_child(DynamicSupervisorSpec("d", max_restarts=1000, backoff=NOW))
            try:
                refs = [await d.start_child(linker(name, self.log)) for name in "abc"]
                for _ in range(2):
                    for one, other in zip(refs, refs[1:] + refs[:1], strict=True):
                        one.cast_nowait(Link(other))
                    await refs[2].call(Get())
                    refs[0].cast_nowait(Crash())
                    for ref in refs:
                        await ref.call(Get())
                await d.stop_child("b")
            except SupervisionError:
                pass  # an injected fault may end any call

    def check(self, error: BaseException | None) -> None:
        assert error is None or isinstance(error, InjectedFault)
        ends = Tally((event.path, event.incarnation) for event in self.log.seen(ActorEnded))
        assert set(ends.values()) <= {1}
        assert Tally(self.log.of("init")).keys() <= Tally(line[:2] for line in self.log.of("terminate")).keys()
        if hasattr(self, "s"):
            assert self.s.statistics().actors == 0


def test_links_end_each_incarnation_once_at_every_step() -> None:
    assert cancel_sweep(Ring, seeds=range(3)).runs > 200
