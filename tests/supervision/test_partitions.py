"""Partitions: a key leads to one child, and a child's trouble stays its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter as Tally
from enum import IntEnum, StrEnum
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision import (
    ActorDown,
    ActorRef,
    ActorStopped,
    CallTimeout,
    DynamicSupervisorSpec,
    IntensityExceeded,
    InvalidKey,
    InvalidSpec,
    NotRunning,
    PartitionSupervisorRef,
    PartitionSupervisorSpec,
    SupervisorGaveUp,
    SupervisorSpec,
)
from supervision.partition import partition_of
from supervision.testing import InjectedFault, cancel_sweep
from tests.supervision.test_testing import check_lives
from tests.supervision.world import NOW, Add, Boom, Counter, Crash, Get, Log, child, seeded, settle, system

keys = st.recursive(
    st.one_of(st.integers(), st.text(), st.binary()), lambda below: st.tuples(below, below) | st.tuples(below)
)


def actors(count: int, log: Log | None = None, **options: Any) -> PartitionSupervisorSpec[Any]:
    return PartitionSupervisorSpec("p", child=lambda number: child(f"c{number}", log), partitions=count, **options)


@settings(deadline=None)
@given(keys, st.integers(1, 50))
def test_each_key_has_one_partition(key: Any, count: int) -> None:
    number = partition_of(key, count, "p")

    assert 0 <= number < count
    assert partition_of(key, count, "p") == number
    if isinstance(key, int):
        assert number == key % count


class Level(IntEnum):
    LOW = 5


class Colour(StrEnum):
    RED = "red"


def test_the_hash_is_the_same_for_ever_and_in_each_process() -> None:
    """Keys may be used between processes, and these numbers therefore never change."""
    samples: list[Any] = [
        "",
        "a",
        "user-17",
        b"a",
        b"",
        ("a", 1),
        ("a", ("b", b"c")),
        (),
        "ü",
        "\ud800",
        Colour.RED,
        -7,
    ]
    code = f"from supervision.partition import partition_of as p; print([p(k, 1000, '') for k in {samples[:-2]!r}])"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert printed == {f"{[partition_of(key, 1000, '') for key in samples[:-2]]}\n"}
    assert [partition_of(key, 1000, "") for key in samples] == [
        374,
        379,
        752,
        826,
        333,
        863,
        837,
        726,
        473,
        156,
        843,
        993,
    ]
    assert partition_of(Level.LOW, 4, "") == 1


def test_like_keys_of_different_types_are_different_keys() -> None:
    encoded = ["1", b"1", ("1",), ("1s",), (b"1",), ("1", ""), ("", "1"), (("1",),), (1,), (("1", ""),), ()]
    assert len({partition_of(key, 2**60, "") for key in encoded}) == len(encoded)


def test_keys_spread() -> None:
    counts = Tally(partition_of(f"user-{n}", 8, "") for n in range(8000))
    assert min(counts.values()) > 850
    assert max(counts.values()) < 1150


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (None, r"t/p: None \(NoneType\) is no key for a partition; give an int, a str, bytes or a tuple"),
        (1.0, r"1\.0 \(float\) is no key"),
        (True, r"True \(bool\) is no key"),
        (["a"], r"\(list\) is no key"),
        (frozenset({"a"}), r"\(frozenset\) is no key"),
        (("a", ("b", 1.5)), r"\(tuple\) is no key for a partition, because of 1\.5 \(float\) in it"),
        (object(), r"\(object\) is no key"),
    ],
)
def test_keys_that_are_none(key: Any, text: str) -> None:
    @seeded(seeds=1)
    async def run() -> None:
        async with system() as s:
            p = await s.start_child(actors(2))
            with pytest.raises(InvalidKey, match=text) as caught:
                p.partition(key)
            assert isinstance(caught.value, TypeError)
            assert await p.partition("a").call(Get()) == 0

    run()


@seeded()
async def test_a_key_leads_to_the_same_ref_across_restarts() -> None:
    log = Log()
    async with system(log) as s:
        p = await s.start_child(actors(4, log, max_restarts=1, max_seconds=10.0, backoff=NOW))
        assert isinstance(p, PartitionSupervisorRef)
        assert (p.partitions, list(p.children())) == (4, ["c0", "c1", "c2", "c3"])
        refs = {n: p.partition(n) for n in range(4)}
        assert [refs[n].name for n in range(4)] == ["c0", "c1", "c2", "c3"]
        assert (p.partition(-1), p.partition(10)) == (refs[3], refs[2])
        await refs[2].cast(Crash())
        await settle()
        assert p.partition(2) == refs[2]
        assert log.of("init")[4:] == [("c2", 2)]  # the others' lives went on
        for _ in range(2):  # too many: all restart, and the refs still lead there
            refs[1].cast_nowait(Crash())
        refs[1].cast_nowait(Add(7))
        await settle()
        assert p.statistics().incarnation == 2
        assert {n: p.partition(n) for n in range(4)} == refs
        assert await p.partition(1).call(Get()) == 7
        # by hand
        await p.stop_child("c3")
        with pytest.raises(ActorStopped):
            await p.partition(3).call(Get())
        await p.restart_child("c3")
        assert await p.partition(3).call(Get()) == 0
        assert p.partition(3) == refs[3]


@seeded()
async def test_each_partition_has_an_intensity_of_its_own() -> None:
    log = Log()
    async with system(log) as s:
        spec = PartitionSupervisorSpec(
            "p",
            child=lambda number: DynamicSupervisorSpec(
                f"d{number}", max_restarts=1, max_seconds=60.0, on_intensity="degrade"
            ),
            partitions=3,
            max_restarts=0,
        )
        p = await s.start_child(spec)
        refs = [await p.partition(f"user-{n}").start_child(child(f"user-{n}", log)) for n in range(12)]
        assert {info.kind for info in p.which_children()} == {"supervisor"}
        first = p.partition("user-0")
        assert refs[0].path == f"{first.path}/user-0"
        mine = [ref for ref in refs if ref.path.startswith(first.path + "/")]
        others = [ref for ref in refs if ref not in mine]
        assert mine
        assert others
        for ref in others[:1] + mine[:1] * 2:
            await ref.cast(Crash())
            await settle()
        assert [event.path for event in log.seen(SupervisorGaveUp)] == [first.path]
        assert first.state == "degraded"
        for ref in mine:
            with pytest.raises(NotRunning):
                await ref.call(Get())
        for ref in others:
            assert await ref.call(Get()) == 0


@seeded()
async def test_partitions_are_fixed() -> None:
    async with system() as s:
        p = await s.start_child(actors(2))
        with pytest.raises(InvalidSpec, match=r"t/p: no start_child\(\): its partitions are fixed"):
            await p.start_child(child("c2"))
        await p.stop_child("c1")
        with pytest.raises(InvalidSpec, match=r"t/p: no delete_child\(\): its partitions are fixed"):
            await p.delete_child("c1")
        assert list(p.children()) == ["c0", "c1"]


@seeded()
async def test_a_partition_supervisor_anywhere_in_the_tree() -> None:
    log = Log()
    async with system(log) as s:
        g = await s.start_child(SupervisorSpec("g", children=[child("a", log), actors(2, log)]))
        p = g.child("p")
        assert isinstance(p, PartitionSupervisorRef)
        assert p.partition(1).path == "t/g/p/c1"
        await s.restart_child("g")
        assert isinstance(p.partition(1), ActorRef)
        assert await p.partition(1).call(Get()) == 0
        await g.stop_child("p")
        await g.restart_child("p")  # from its spec
        assert await p.partition(1).call(Get()) == 0
    assert [line[0] for line in log.of("terminate")][-3:] == ["c1", "c0", "a"]


@seeded()
async def test_a_key_before_all_have_started() -> None:
    seen: list[BaseException | str] = []

    def look(counter: Counter) -> None:
        p = counter.context.supervisor
        assert isinstance(p, PartitionSupervisorRef)
        for key in (0, 1):
            try:
                seen.append(p.partition(key).path)
            except NotRunning as error:
                seen.append(error)

    async with system() as s:
        spec = PartitionSupervisorSpec(
            "p", child=lambda n: child(f"c{n}", on_init=look if n == 0 else None), partitions=2
        )
        await s.start_child(spec)
    assert seen[0] == "t/p/c0"
    assert "t/p is not running: starting" in str(seen[1])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"partitions": 0}, "partitions must be a number, at least 1, got 0"),
        ({"partitions": True}, "partitions must be a number"),
        ({"partitions": 2.0}, "partitions must be a number"),
        ({"child": child("a")}, "child must be callable"),
        (
            {"child": lambda n: "no spec"},
            r"child\(0\) must give a ChildSpec or a supervisor's spec, it gave 'no spec'",
        ),
        ({"child": lambda n: child("same")}, "children's names must differ"),
        ({"child": lambda n: child(f"c{n}", restart="temporary")}, "a partition can't be temporary"),
        ({"child": lambda n: child(f"c{n}", restart="transient", significant=True)}, "is significant, but nothing"),
        ({"children": (child("a"),)}, "don't pass them"),
        ({"max_restarts": -1}, "max_restarts must not be negative"),
        ({"name": "a/b"}, "name must not be empty and must not contain"),
    ],
)
def test_bad_specs(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidSpec, match=text):
        PartitionSupervisorSpec(**{"name": "p", "child": lambda n: child(f"c{n}"), "partitions": 2, **options})


class Partitioned:
    """Started, used, crashed and stopped, cut anywhere: all partitions or none, and nothing left."""

    def __init__(self) -> None:
        self.log = Log()

    async def run(self) -> None:
        async def slow(_: Counter) -> None:
            await trio.sleep(0.1)

        async with system(self.log) as s:
            self.s = s
            spec = PartitionSupervisorSpec(
                "p", child=lambda n: child(f"c{n}", self.log, on_init=slow), partitions=2, backoff=NOW
            )
            try:
                p = await s.start_child(spec)
            except BaseException:
                self.left = s.children()
                raise
            try:
                await p.partition("x").cast(Crash())
                await p.partition("x").call(Get(), timeout=5.0)
                await s.restart_child("p")
                await p.partition("y").call(Get(), timeout=5.0)
            except (NotRunning, InjectedFault, Boom):
                pass

    def check(self, error: BaseException | None) -> None:
        known = (InjectedFault, IntensityExceeded, ActorDown, CallTimeout)
        assert error is None or isinstance(error, known), repr(error)
        assert getattr(self, "left", {}) == {}
        check_lives(self.log)
        if hasattr(self, "s"):
            assert self.s.statistics().actors == 0


def test_a_partition_supervisor_cut_at_any_step() -> None:
    assert cancel_sweep(Partitioned, seeds=range(3)).runs > 100
