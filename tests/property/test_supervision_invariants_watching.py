"""Invariants of monitors and names (supervision/INVARIANTS.md), with random programs under random schedules."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision import (
    ActorRef,
    ActorSystem,
    Cast,
    ChildSpec,
    Down,
    NameNotFound,
    NameTaken,
    NotRunning,
    SupervisionError,
    handles,
)
from supervision.testing import run_seeded
from tests.supervision.world import NOW, Counter, Crash, Log, Quit, settle, system

seeds = st.integers(0, 2**32 - 1)
common = settings(deadline=None)  # examples: by profile


ends = st.sampled_from(["crash", "quit", "stop", "restart", "kill"])


async def end_by(s: ActorSystem, ref: ActorRef, how: str) -> None:
    """It raises nothing if the place is closed already."""
    with contextlib.suppress(SupervisionError):
        if how == "crash":
            await ref.cast(Crash())
        elif how == "quit":
            await ref.cast(Quit())
        elif how == "restart":
            await s.restart_child(ref.name)
        else:
            if how == "kill":
                ref.cast_nowait(NapCast())
                await settle()
            await s.stop_child(ref.name)
    await settle()


class NapCast(Cast, frozen=True):
    """Never done."""


class Mortal(Counter):
    @handles(NapCast)
    async def nap_for_ever(self, message: NapCast) -> None:
        await trio.sleep_forever()


KINDS = {"crash": "crash", "quit": "normal", "stop": "shutdown", "restart": "shutdown", "kill": "killed"}


@common
@given(st.lists(st.tuples(st.sampled_from(["monitor", "monitor", "cancel"]), ends | st.none()), max_size=12), seeds)
def test_a_monitor_fires_once_for_the_life_that_it_watches(ops: list[tuple[str, str | None]], seed: int) -> None:
    """With the right reason, when names and memberships are gone, and never once it is cancelled."""

    async def run() -> None:
        fired: list[tuple[int, int, str, bool, bool]] = []
        expected: list[tuple[int, int, str, bool, bool]] = []
        watching: dict[int, Any] = {}
        async with system() as s:
            spec = ChildSpec("a", lambda: Mortal(Log()), restart="transient", backoff=NOW, shutdown=1.0)
            ref = await s.start_child(spec)
            s.registry.register("name", ref)
            alive = named = True
            last = (0, "")
            for n, (op, end) in enumerate(ops):
                if op == "monitor":

                    def fire(down: Down, n: int = n) -> None:
                        found = s.registry.find("name") is not None
                        fired.append((n, down.incarnation, down.reason.kind, down.reason.restarting, found))

                    monitor = ref.monitor(fire)
                    if alive:
                        watching[n] = monitor
                    else:
                        assert not monitor.active
                        expected.append((n, *last, False, False))
                elif watching:
                    first = min(watching)
                    watching.pop(first).cancel()
                if end is not None:
                    was, number = alive, ref.place.number
                    alive = end == "restart" or (alive and end == "crash")
                    await end_by(s, ref, end)
                    if was:
                        last = (number, KINDS[end])
                        named = named and alive  # a place that is revived has lost its names
                        expected += [(n, *last, alive, named) for n in watching]
                        watching.clear()
                assert fired == expected
                assert not ref.place.monitors or len(ref.place.monitors) == len(watching)
        for n in watching:
            expected.append((n, ref.place.number, "shutdown", False, False))
        assert fired == expected

    run_seeded(run, seed=seed)


@common
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["register", "register", "unregister", "end"]),
            st.sampled_from("abc"),
            st.sampled_from(["x", "y", "z"]),
            ends,
        ),
        max_size=25,
    ),
    seeds,
)
def test_names_against_a_model(ops: list[tuple[str, str, str, str]], seed: int) -> None:
    """A name leads to one living place, through its restarts, or to none; never to one that is known to be dead."""

    async def run() -> None:
        model: dict[str, str] = {}
        alive = set("abc")
        stale: list[str] = []
        async with system() as s:

            def look(event: object) -> None:
                stale.extend(name for name, ref in s.registry.names.items() if ref.place.closed is not None)

            s.events.subscribe(look)
            refs = {
                name: await s.start_child(
                    ChildSpec(name, lambda: Mortal(Log()), restart="transient", backoff=NOW, shutdown=1.0)
                )
                for name in "abc"
            }
            for ref in refs.values():
                ref.monitor(look)
            for op, who, name, end in ops:
                if op == "register":
                    holder = model.get(name)
                    if holder == who or (holder is None and who in alive):
                        s.registry.register(name, refs[who])
                        model[name] = who
                    else:
                        with pytest.raises(NameTaken if holder is not None else NotRunning):
                            s.registry.register(name, refs[who])
                elif op == "unregister":
                    if name in model:
                        s.registry.unregister(name)
                        del model[name]
                    else:
                        with pytest.raises(NameNotFound):
                            s.registry.unregister(name)
                else:
                    await end_by(s, refs[who], end)
                    if end == "restart" or (end == "crash" and who in alive):
                        alive.add(who)
                    else:
                        alive.discard(who)
                        model = {known: holder for known, holder in model.items() if holder != who}
                assert {known: ref.name for known, ref in s.registry.names.items()} == model
                for known, ref in refs.items():
                    mine = {taken for taken, holder in model.items() if holder == known}
                    assert set(ref.statistics().names) == mine
                assert stale == []
            assert s.statistics().names == len(model)
        assert len(s.registry) == 0

    run_seeded(run, seed=seed)
