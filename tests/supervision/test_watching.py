"""Monitors, names, events, the tree, wait-for cycles."""

from __future__ import annotations

import math

import pytest
import trio

from supervision import (
    Actor,
    ActorCrashed,
    ActorEnded,
    ActorRef,
    ActorRestarted,
    ActorRestarting,
    ActorStarted,
    ActorStopped,
    Backoff,
    Call,
    CallCycle,
    CallTimeout,
    ChildSpec,
    Down,
    DynamicSupervisorSpec,
    Event,
    ListenerFailed,
    Mailbox,
    NameNotFound,
    NameTaken,
    PlaceClosed,
    Reply,
    SupervisorSpec,
    UnknownMessage,
    handles,
)
from tests.supervision.world import NOW, Add, Boom, Counter, Crash, Get, Log, Nap, child, seeded, settle, system


@seeded()
async def test_a_monitor_fires_once_per_life() -> None:
    async with system() as s:
        ref = await s.start_child(child("a"))
        downs: list[Down] = []
        monitor = ref.monitor(downs.append)
        silent = ref.monitor(downs.append)
        silent.cancel()
        await ref.cast(Crash())
        await ref.call(Get())
        await ref.cast(Crash())
        await settle()
        assert [(down.path, down.incarnation, down.reason.kind, down.reason.restarting) for down in downs] == [
            ("t/a", 1, "crash", True)
        ]
        assert not monitor.active
        ref.monitor(downs.append)
        await s.stop_child("a")
        assert (downs[1].incarnation, downs[1].reason.kind, downs[1].reason.restarting) == (3, "shutdown", False)
        ref.monitor(downs.append)  # nobody there, nobody to come: at once
        assert len(downs) == 3


@seeded()
async def test_down_comes_after_unregister() -> None:
    seen: list[object] = []
    async with system() as s:

        def name(counter: Counter) -> None:
            counter.context.register("the one")
            counter.context.register("the one")

        ref = await s.start_child(child("a", on_init=name, restart="transient"))
        assert s.registry.whereis("the one") == ref
        ref.monitor(lambda down: seen.append(s.registry.find("the one")))
        await s.stop_child("a")
        assert seen == [None]
        with pytest.raises(NameNotFound, match="'the one'"):
            s.registry.whereis("the one")


@seeded()
async def test_names_are_unique_and_survive_restarts() -> None:
    async with system() as s:
        a = await s.start_child(child("a"))
        b = await s.start_child(child("b"))
        s.registry.register("n", a)
        with pytest.raises(NameTaken, match="registered for t/a"):
            s.registry.register("n", b)
        await a.cast(Crash())
        await a.call(Get())
        assert s.registry.whereis("n") == a
        s.registry.unregister("n")
        s.registry.register("n", b)
        await s.stop_child("a")
        assert s.registry.names == {"n": b}
        with pytest.raises(ActorStopped):
            s.registry.register("m", a)


@seeded()
async def test_an_actor_that_monitors_needs_a_handler() -> None:
    async with system() as s:
        ref = await s.start_child(child("a"))

        def watch(counter: Counter) -> None:
            counter.context.monitor(ref)

        with pytest.raises(UnknownMessage, match="no handler for Down"):
            await s.start_child(child("b", on_init=watch))


@seeded()
async def test_events_tell_the_whole_life() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(child("a", backoff=Backoff(initial=1, jitter=0)))
        await ref.cast(Crash())
        await ref.call(Get())
        await s.stop_child("a")
        mine = [type(event) for event in log.events if event.path == "t/a" and type(event).__name__ != "Undelivered"]
        assert mine == [
            ActorStarted,
            ActorCrashed,
            ActorEnded,
            ActorRestarting,
            ActorRestarted,
            ActorEnded,
            PlaceClosed,
        ]
        (restarting,) = log.seen(ActorRestarting)
        assert (restarting.incarnation, restarting.delay) == (2, 1.0)


@seeded()
async def test_listeners_are_isolated_and_subscriptions_end() -> None:
    seen: list[Event] = []
    async with system() as s:

        def fail(event: Event) -> None:
            raise Boom("a listener")

        s.events.subscribe(fail)
        with s.events.subscribe(seen.append) as subscription:
            ref = await s.start_child(child("a"))
            assert {type(event) for event in seen} == {ActorStarted, ListenerFailed}
            subscription.cancel()
            count = len(seen)
            await ref.cast(Crash())
            await ref.call(Get())
        assert len(seen) == count
        assert not s.events.active


@seeded()
async def test_the_tree_says_what_goes_on() -> None:
    async with system() as s:
        await s.start_child(
            SupervisorSpec("g", children=[child("a"), DynamicSupervisorSpec("d", on_intensity="degrade")])
        )
        g = s.child("g")
        a = g.child("a")  # type: ignore[union-attr]
        assert isinstance(a, ActorRef)
        await a.cast(Crash())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.call, Nap(10.0), math.inf)
            await trio.sleep(3)
            a.cast_nowait(Add())
            node = s.tree().find("t/g/a")
            assert node is not None
            assert (node.state, node.incarnation, node.restarts, node.queued, node.in_hand) == (
                "running",
                2,
                1,
                1,
                "Nap",
            )
            assert node.in_hand_for == pytest.approx(3, abs=0.01)
            assert s.tree().render().splitlines() == [
                "t  running 3.0 s",
                "'- g  running 3.0 s",
                "   |- a  running 3.0 s; restarts 1; queued 1; handling Nap for 3.0 s; last crash Boom: on demand",
                "   '- d  running 3.0 s",
            ]
            assert str(s.tree()) == s.tree().render()
        assert [node.path for node in s.tree()] == ["t", "t/g", "t/g/a", "t/g/d"]


class Relay(Call[str], frozen=True):
    """Call the next in the ring; `hops` to go."""

    hops: int


class Ring(Actor):
    def __init__(self, ring: list[ActorRef], index: int, cycles: list[CallCycle]) -> None:
        self.ring = ring
        self.index = index
        self.cycles = cycles

    @handles(Relay)
    async def relay(self, message: Relay) -> str:
        if message.hops == 0:
            return "done"
        try:
            return await self.ring[(self.index + 1) % len(self.ring)].call(Relay(message.hops - 1), math.inf)
        except CallCycle as cycle:
            self.cycles.append(cycle)
            return "cycle"


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_call_cycles_raise_and_acyclic_calls_do_not(length: int) -> None:
    @seeded()
    async def run() -> None:
        cycles: list[CallCycle] = []
        async with system() as s:
            ring: list[ActorRef] = []
            for i in range(length):
                ring.append(await s.start_child(ChildSpec(f"n{i}", lambda i=i: Ring(ring, i, cycles))))  # type: ignore[misc]
            assert await ring[0].call(Relay(length - 1)) == "done"
            assert cycles == []
            assert await ring[0].call(Relay(length)) == "cycle"
            (cycle,) = cycles
            assert cycle.chain[0] == cycle.chain[-1] == f"t/n{length - 1}"
            assert set(cycle.chain) == {f"t/n{i}" for i in range(length)}
            assert s.statistics().restarts == 0

    run()


class Poke(Call[None], frozen=True):
    """Cast to the peer, whose mailbox is full, and be asked by it."""


class Peer(Actor):
    def __init__(self, peers: list[ActorRef], index: int, found: list[str]) -> None:
        self.peers = peers
        self.index = index
        self.found = found

    @handles(Poke)
    async def poke(self, message: Poke) -> None:
        try:
            for _ in range(3):
                await self.peers[1 - self.index].cast(Add())
        except CallCycle:
            self.found.append(self.context.name)

    @handles(Add)
    def add(self, message: Add) -> None:
        pass


@seeded(seeds=10)
async def test_blocked_sends_are_edges_too() -> None:
    found: list[str] = []
    async with system() as s:
        peers: list[ActorRef] = []
        for i in range(2):
            spec = ChildSpec(f"p{i}", lambda i=i: Peer(peers, i, found), mailbox=Mailbox(capacity=1))  # type: ignore[misc]
            peers.append(await s.start_child(spec))
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(peer.call, Poke(), math.inf)
        assert len(found) == 1


@seeded()
async def test_a_full_mailbox_of_ones_own_is_a_cycle() -> None:
    found: list[str] = []
    async with system() as s:
        peers: list[ActorRef] = []
        ref = await s.start_child(ChildSpec("p", lambda: Peer(peers, 0, found), mailbox=Mailbox(capacity=1)))
        peers.extend([ref, ref])
        await ref.call(Poke(), math.inf)
        assert found == ["p"]


class Hold(Call[str], frozen=True):
    pass


class Holder(Actor):
    """Defers its answer to Hold, and calls whoever asks it to."""

    def __init__(self, others: dict[str, ActorRef]) -> None:
        self.others = others
        self.held: Reply[str] | None = None

    @handles(Hold)
    def hold(self, message: Hold) -> None:
        self.held = self.context.defer_reply()

    @handles(Relay)
    async def relay(self, message: Relay) -> str:
        if message.hops:
            return await self.others["holder"].call(Hold(), math.inf)
        try:
            await self.others["asker"].call(Relay(0), timeout=1.0)
        except CallTimeout:
            assert self.held is not None
            self.held.send("freed")
        return "done"


@seeded()
async def test_a_deferred_call_is_no_edge() -> None:
    others: dict[str, ActorRef] = {}
    async with system() as s:
        for name in ("asker", "holder"):
            others[name] = await s.start_child(ChildSpec(name, lambda: Holder(others)))
        results: list[str] = []

        async def ask() -> None:
            results.append(await others["asker"].call(Relay(1), math.inf))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await settle()
            assert await others["holder"].call(Relay(0)) == "done"  # no CallCycle: the asker can be answered
        assert results == ["freed"]


class StopSelf(Call[str], frozen=True):
    pass


@seeded()
async def test_a_child_cannot_wait_for_its_own_end() -> None:
    class Suicidal(Actor):
        @handles(StopSelf)
        async def stop_self(self, message: StopSelf) -> str:
            with pytest.raises(CallCycle):
                await self.context.supervisor.stop_child(self.context.name)
            with pytest.raises(CallCycle):
                await self.context.supervisor.restart_child(self.context.name)
            return "alive"

    async with system() as s:
        ref = await s.start_child(ChildSpec("a", Suicidal, backoff=NOW))
        assert await ref.call(StopSelf()) == "alive"


class StartOne(Call[str], frozen=True):
    deep: bool


@pytest.mark.parametrize("deep", [False, True])
def test_an_init_that_calls_its_starter_is_a_cycle(deep: bool) -> None:
    class Starter(Actor):
        @handles(Get)
        def get(self, message: Get) -> int:
            return 1

        @handles(StartOne)
        async def start_one(self, message: StartOne) -> str:
            me = self.context.ref

            async def ask(_: Counter) -> None:
                await me.call(Get(), math.inf)

            spec = child("new", on_init=ask)
            with pytest.raises(CallCycle):
                if message.deep:
                    await self.context.supervisor.start_child(SupervisorSpec("g", children=[spec]))
                else:
                    await self.context.supervisor.start_child(spec)
            return "found"

    @seeded()
    async def run() -> None:
        async with system() as s:
            ref = await s.start_child(ChildSpec("a", Starter))
            assert await ref.call(StartOne(deep)) == "found"
            assert list(s.children()) == ["a"]

    run()
