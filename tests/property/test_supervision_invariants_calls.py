"""Invariants of calls (supervision/INVARIANTS.md), with random programs under random schedules."""

from __future__ import annotations

import contextlib
import math
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from supervision import (
    Actor,
    ActorDown,
    ActorEnded,
    ActorRef,
    ActorSystem,
    AlreadyReplied,
    Call,
    CallCycle,
    CallTimeout,
    ChildSpec,
    Mailbox,
    Reply,
    SupervisionError,
    handles,
)
from supervision.testing import run_seeded
from tests.supervision.world import NOW, Add, Boom, Counter, Crash, CrashCall, Get, Log, Nap, Quit, settle, system

seeds = st.integers(0, 2**32 - 1)
common = settings(deadline=None)  # examples: by profile


class Later(Call[int], frozen=True):
    """Answered when the test says so."""

    n: int


class Desk(Actor):
    def __init__(self, replies: dict[int, Reply[int]]) -> None:
        self.replies = replies

    @handles(Later)
    def later(self, message: Later) -> None:
        self.replies[message.n] = self.context.defer_reply()

    @handles(Crash)
    def crash(self, message: Crash) -> None:
        raise Boom

    @handles(Quit)
    def quit(self, message: Quit) -> None:
        self.context.stop()


moments = st.floats(0.1, 8)


@common
@given(
    st.lists(st.tuples(moments, st.sampled_from(["send", "fail"]), st.none() | moments), min_size=1, max_size=6),
    seeds,
)
def test_late_and_second_replies_change_a_counter_and_nothing_else(
    calls: list[tuple[float, str, float | None]], seed: int
) -> None:
    """Replies at any time, to callers who time out (after 3.5 s) or leave, and each reply once more."""
    for at, _, patience in calls:
        left = min(3.5, math.inf if patience is None else patience)
        assume(abs(at - left) > 1e-3 and (patience is None or abs(patience - 3.5) > 1e-3))

    async def run() -> None:
        replies: dict[int, Reply[int]] = {}
        ends: dict[int, str] = {}
        expected: dict[int, str] = {}
        late = 0
        async with system() as s, trio.open_nursery() as nursery:
            ref = await s.start_child(ChildSpec("d", lambda: Desk(replies), backoff=NOW))
            begun = trio.current_time()

            async def ask(n: int, patience: float | None) -> None:
                with trio.CancelScope(deadline=begun + (math.inf if patience is None else patience)) as scope:
                    try:
                        ends[n] = f"value {await ref.call(Later(n), timeout=3.5)}"
                    except (Boom, CallTimeout) as error:
                        ends[n] = type(error).__name__
                if scope.cancelled_caught:
                    ends[n] = "left"
                # whatever comes now must not disturb another wait of this task
                await trio.sleep(1000)
                ends[n] += "."

            for n, (_, _, patience) in enumerate(calls):
                nursery.start_soon(ask, n, patience)
            await settle()
            for at, n in sorted((at, n) for n, (at, _, _) in enumerate(calls)):
                _, how, patience = calls[n]
                await trio.sleep_until(begun + at)
                waited = at < min(3.5, math.inf if patience is None else patience)
                if waited:
                    expected[n] = f"value {n}" if how == "send" else "Boom"
                else:
                    expected[n] = "left" if patience is not None and patience < 3.5 else "CallTimeout"
                for again in range(2):
                    act = partial(replies[n].send, n) if how == "send" else partial(replies[n].fail, Boom())
                    if again:
                        with pytest.raises(AlreadyReplied):
                            act()
                    else:
                        assert act() is waited
                        late += not waited
                await settle()
                assert s.statistics().late_replies == late
                assert ends[n] == expected[n]
            await trio.sleep(10)
            assert ends == expected
            await trio.sleep(2000)
            assert ends == {n: f"{end}." for n, end in expected.items()}
            assert (s.statistics().restarts, s.statistics().timers) == (0, 0)

    run_seeded(run, seed=seed)


asked = st.lists(
    st.tuples(
        st.sampled_from([Get(), Nap(1.0), Nap(3.0), Later(0), CrashCall()]),
        st.sampled_from([0.0, 0.5, 2.0, math.inf]),
        st.one_of(st.none(), st.floats(0, 4)),
    ),
    min_size=1,
    max_size=12,
)


class Server(Counter):
    """A counter that also keeps what it has not answered."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Reply[int]] = []

    @handles(Later)
    def later(self, message: Later) -> None:
        self.kept.append(self.context.defer_reply())


@common
@given(asked, st.lists(st.floats(0, 6), max_size=3), st.sampled_from(["crash", "stop", "quit", "restart"]), seeds)
def test_each_call_ends_once_and_none_outlives_its_actor_or_its_timeout(
    calls: list[Any], crashes: list[float], end: str, seed: int
) -> None:
    async def run() -> None:
        ends: list[tuple[int, str, float]] = []
        begun = trio.current_time()

        async def ask(ref: ActorRef, index: int, message: Any, timeout: float, patience: float | None) -> None:
            scope = trio.CancelScope(deadline=begun + (math.inf if patience is None else patience))
            outcome = "value"
            with scope:
                try:
                    await ref.call(message, timeout)
                except SupervisionError as error:
                    outcome = type(error).__name__
            ends.append((index, "left" if scope.cancelled_caught else outcome, trio.current_time() - begun))

        with trio.move_on_after(1000) as bound:
            async with trio.open_nursery() as nursery, system() as s:
                spec = ChildSpec(
                    "a", Server, backoff=NOW, mailbox=Mailbox(capacity=3), restart="transient", shutdown=0.5
                )
                ref = await s.start_child(spec)
                for index, call in enumerate(calls):
                    nursery.start_soon(ask, ref, index, *call)
                for at in sorted(crashes):
                    await trio.sleep_until(begun + at)
                    with contextlib.suppress(SupervisionError):
                        ref.cast_nowait(Crash())
                await trio.sleep_until(begun + 7)
                with contextlib.suppress(SupervisionError):
                    if end in {"stop", "restart"}:
                        await (s.stop_child if end == "stop" else s.restart_child)("a")
                    else:
                        await ref.cast(Crash() if end == "crash" else Quit())
                await settle()
                assert s.statistics().timers == 0
        assert not bound.cancelled_caught, f"only {len(ends)} of {len(calls)} calls have ended"
        assert sorted(index for index, _, _ in ends) == list(range(len(calls)))
        for index, outcome, at in ends:
            _, timeout, patience = calls[index]
            assert at <= min(timeout, math.inf if patience is None else patience) + 1e-6
            assert outcome in {"value", "left", "ActorDown", "ActorStopped", "CallTimeout"}
            assert outcome != "CallTimeout" or at >= timeout
            assert outcome != "left" or (patience is not None and at >= patience)

    run_seeded(run, seed=seed)


@common
@given(
    st.lists(st.floats(0, 5), min_size=1, max_size=6), st.sampled_from(["crash", "stop", "quit", "restart"]), seeds
)
def test_replies_owed_fail_when_the_incarnation_ends(answered: list[float], end: str, seed: int) -> None:
    """Those answered before the end are; all others get ActorDown, at the end."""

    async def run() -> None:
        replies: dict[int, Reply[int]] = {}
        ends: dict[int, tuple[str, float]] = {}
        with trio.move_on_after(1000) as bound:
            async with system() as s, trio.open_nursery() as nursery:
                ref = await s.start_child(ChildSpec("d", lambda: Desk(replies), backoff=NOW, restart="transient"))
                begun = trio.current_time()

                async def ask(n: int) -> None:
                    try:
                        outcome = str(await ref.call(Later(n), math.inf))
                    except ActorDown as down:
                        outcome = f"down {down.reason.kind} {down.begun}"
                    ends[n] = (outcome, trio.current_time() - begun)

                async def answer(n: int, at: float) -> None:
                    await trio.sleep_until(begun + at)
                    if n not in ends:
                        replies[n].send(n)

                for n, at in enumerate(answered):
                    nursery.start_soon(ask, n)
                    if at < 2.5:
                        nursery.start_soon(answer, n, at + 0.01)
                await trio.sleep_until(begun + 3)
                if end in {"stop", "restart"}:
                    await (s.stop_child if end == "stop" else s.restart_child)("d")
                else:
                    await ref.cast(Crash() if end == "crash" else Quit())
        assert not bound.cancelled_caught, f"only {len(ends)} of {len(answered)} calls have ended"
        kind = {"crash": "crash", "quit": "normal"}.get(end, "shutdown")
        for n, at in enumerate(answered):
            outcome, when = ends[n]
            assert outcome == (str(n) if at < 2.5 else f"down {kind} True")
            assert when == pytest.approx(at + 0.01 if at < 2.5 else 3, abs=1e-6)

    run_seeded(run, seed=seed)


class CallOn(Call[str], frozen=True):
    """Call `to`, for at most `patience` seconds; it naps or calls on."""

    to: ActorRef
    nap: float
    patience: float


class Caller(Counter):
    @handles(CallOn)
    async def call_on(self, message: CallOn) -> str:
        with trio.move_on_after(message.patience):
            await message.to.call(Nap(message.nap), math.inf)
            return "answered"
        return "left"


@common
@given(st.lists(st.tuples(st.sampled_from("abx"), st.floats(0.1, 3), st.floats(0, 4)), min_size=1, max_size=8), seeds)
def test_a_caller_that_leaves_disturbs_nobody(calls: list[tuple[str, float, float]], seed: int) -> None:
    """Actors (a and b) and a plain task (x) call and leave; the callee goes on, and no edge of a wait is left."""

    async def run() -> None:
        log = Log()
        async with system(log) as s:
            callee = await s.start_child(ChildSpec("callee", lambda: Caller(log), backoff=NOW))
            callers = {name: await s.start_child(ChildSpec(name, lambda: Caller(log), backoff=NOW)) for name in "ab"}

            async def plain(nap: float, patience: float) -> None:
                with trio.move_on_after(patience):
                    await callee.call(Nap(nap), math.inf)

            async with trio.open_nursery() as nursery:
                for name, nap, patience in calls:
                    if name == "x":
                        nursery.start_soon(plain, nap, patience)
                    else:
                        nursery.start_soon(callers[name].call, CallOn(callee, nap, patience), math.inf)
            assert callee.state == "running"
            assert all(ref.place.life is not None and ref.place.life.waiting is None for ref in callers.values())
            # An edge that was left behind would make a ring of this.
            for caller in callers.values():
                assert await callee.call(CallOn(caller, 0.1, math.inf), math.inf) == "answered"
            assert callee.place.inbox.count == 0
            assert (s.statistics().restarts, s.statistics().timers) == (0, 0)
            assert log.seen(ActorEnded) == []

    run_seeded(run, seed=seed)


class Pass(Call[int], frozen=True):
    """Call (or cast to) the next of these, who does so in turn; how many were reached."""

    way: tuple[int, ...]
    nap: float = 0.0
    casts: bool = False


class Member(Actor):
    def __init__(self, refs: list[ActorRef], cycles: list[CallCycle]) -> None:
        self.refs = refs
        self.cycles = cycles

    @handles(Pass)
    async def on(self, message: Pass) -> int:
        await trio.sleep(message.nap)
        if not message.way:
            return 1
        following, *rest = message.way
        try:
            if message.casts:
                for _ in range(3):
                    await self.refs[following].cast(Add())
                return 1
            return 1 + await self.refs[following].call(Pass(tuple(rest)), math.inf)
        except CallCycle as cycle:
            self.cycles.append(cycle)
            return 1

    @handles(Add)
    def add(self, message: Add) -> None: ...


async def members(s: ActorSystem, count: int, cycles: list[CallCycle], capacity: float) -> list[ActorRef]:
    refs: list[ActorRef] = []
    for i in range(count):
        spec = ChildSpec(f"m{i}", lambda: Member(refs, cycles), mailbox=Mailbox(capacity=capacity))
        refs.append(await s.start_child(spec))
    return refs


@common
@given(
    st.integers(1, 5),
    st.sampled_from(["calls at once", "casts at once", "casts at a rendezvous", "one chain"]),
    seeds,
)
def test_rings_of_waits_are_found_in_every_interleaving(length: int, way: str, seed: int) -> None:
    """Exactly one is told, the one that would close the ring, and everyone gets an answer."""

    async def run() -> None:
        cycles: list[CallCycle] = []
        answers: list[int] = []
        with trio.move_on_after(1000) as bound:
            async with system() as s:
                capacity = {"casts at once": 1, "casts at a rendezvous": 0}.get(way, math.inf)
                refs = await members(s, length, cycles, capacity)

                async def ask(i: int, *on: int) -> None:
                    message = Pass(on, nap=1.0, casts=way.startswith("casts"))
                    answers.append(await refs[i].call(message, math.inf))

                async with trio.open_nursery() as nursery:
                    if way == "one chain":
                        nursery.start_soon(ask, 0, *range(1, length), 0)
                    else:
                        for i in range(length):
                            nursery.start_soon(ask, i, (i + 1) % length)
        assert not bound.cancelled_caught, "a ring of waits that nobody has found"
        assert (
            sorted(answers)
            == {
                "one chain": [length],
                "casts at once": [1] * length,
                "casts at a rendezvous": [1] * length,
                "calls at once": [1] + [2] * (length - 1),
            }[way]
        )
        (cycle,) = cycles
        assert cycle.chain[0] == cycle.chain[-1]
        assert sorted(cycle.chain[1:]) == [f"t/m{i}" for i in range(length)]

    run_seeded(run, seed=seed)


@common
@given(st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=1, max_size=12), seeds)
def test_waits_without_a_ring_are_never_refused(ways: list[set[int]], seed: int) -> None:
    """Calls that only lead upwards, however many at once."""

    async def run() -> None:
        cycles: list[CallCycle] = []
        async with system() as s:
            refs = await members(s, 6, cycles, math.inf)

            async def ask(way: set[int]) -> None:
                first, *rest = sorted(way)
                assert await refs[first].call(Pass(tuple(rest)), math.inf) == len(way)

            async with trio.open_nursery() as nursery:
                for way in ways:
                    nursery.start_soon(ask, way)
        assert cycles == []

    run_seeded(run, seed=seed)
