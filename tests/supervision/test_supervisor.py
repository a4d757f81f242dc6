"""What supervisors do about ends: restart types, strategies, intensity, escalation, degraded ends."""

from __future__ import annotations

import random

import pytest
import trio

from supervision import (
    ActorDegraded,
    ActorRef,
    ActorRestarting,
    Backoff,
    ChildNotFound,
    Degraded,
    DynamicSupervisorSpec,
    IntensityExceeded,
    NotRunning,
    PlaceClosed,
    StopReason,
    SupervisorGaveUp,
    SupervisorRef,
    SupervisorSpec,
    open_system,
)
from tests.supervision.world import NOW, Add, Boom, Counter, Crash, Get, Log, Quit, child, seeded, settle, system


def ref_of(supervisor: object, name: str) -> ActorRef:
    found = supervisor.child(name)  # type: ignore[attr-defined]
    assert isinstance(found, ActorRef)
    return found


@pytest.mark.parametrize("kind", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("end", ["normal", "crash", "stop"])
def test_restart_types(kind: str, end: str) -> None:
    @seeded(seeds=2)
    async def run() -> None:
        log = Log()
        async with system(log) as s:
            ref = await s.start_child(child("a", log, restart=kind))
            if end == "stop":
                await s.stop_child("a")
            else:
                await ref.cast(Quit() if end == "normal" else Crash())
            await settle()
            restarts = end != "stop" and (kind == "permanent" or (kind == "transient" and end == "crash"))
            assert len(log.of("init")) == (2 if restarts else 1)
            assert log.of("terminate")[0][3] is restarts
            assert (ref.state == "running") is restarts
            assert ("a" in s.children()) is (kind != "temporary")

    run()


def group(strategy: str, log: Log, **options: object) -> SupervisorSpec:
    return SupervisorSpec(
        "g",
        strategy=strategy,  # type: ignore[arg-type]
        children=[child(name, log) for name in "abcd"],
        backoff=NOW,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("strategy", "down", "up"),
    [("one_for_one", "b", "b"), ("rest_for_one", "bdc", "bcd"), ("one_for_all", "bdca", "abcd")],
)
def test_strategies_restart_exactly_their_set_in_order(strategy: str, down: str, up: str) -> None:
    @seeded()
    async def run() -> None:
        log = Log()
        async with system(log) as s:
            g = await s.start_child(group(strategy, log))
            log.lines.clear()
            await ref_of(g, "b").cast(Crash())
            await settle()
            assert "".join(line[0] for line in log.of("terminate")) == down
            assert "".join(line[0] for line in log.of("init")) == up
            assert all(line[3] for line in log.of("terminate"))  # each knew that it would restart
            kinds = [line[0] for line in log.lines]
            assert kinds == ["terminate"] * len(down) + ["init"] * len(up)

    run()


@seeded(seeds=20)
async def test_concurrent_crashes_merge_into_one_batch() -> None:
    log = Log()
    async with system(log) as s:
        g = await s.start_child(group("rest_for_one", log, max_restarts=10))
        for name in "cb":
            ref_of(g, name).cast_nowait(Crash())
        await settle()
        for name in "abcd":
            assert await ref_of(g, name).call(Get()) == 0
        # whatever the order: each incarnation ended before the next began, and later children came up last
        for name in "abcd":
            mine = [line for line in log.lines if line[1] == name]
            assert [line[0] for line in mine] == ["init", "terminate"] * (len(mine) // 2) + ["init"]
        assert [line[0] for line in log.of("init")][-3:] == ["b", "c", "d"]
        assert len([line for line in log.of("init") if line[0] == "a"]) == 1


@seeded()
async def test_messages_survive_a_siblings_crash() -> None:
    log = Log()
    async with system(log) as s:
        g = await s.start_child(group("one_for_all", log))
        ref_of(g, "b").cast_nowait(Crash())
        for n in range(5):
            ref_of(g, "d").cast_nowait(Add(n))
        await settle()
        assert [line[1] for line in log.of("add")] == list(range(5))


@seeded()
async def test_intensity_is_inclusive_and_on_the_virtual_clock() -> None:
    for pause, survives in ((2.5, False), (2.6, True)):
        log = Log()
        async with system(log) as s:
            g = await s.start_child(
                SupervisorSpec(
                    "g", children=[child("a", log)], max_restarts=2, max_seconds=5.0, on_intensity="degrade"
                )
            )
            for _ in range(3):
                await ref_of(g, "a").cast(Crash())
                await trio.sleep(pause)
            assert (g.state == "running") is survives
            assert len(log.seen(SupervisorGaveUp)) == (0 if survives else 1)
            assert len(log.of("init")) == (4 if survives else 3)


@seeded()
async def test_degraded_supervisor_takes_nobody_with_it() -> None:
    log = Log()
    async with system(log) as s:
        other = await s.start_child(child("other", log))
        d = await s.start_child(DynamicSupervisorSpec("d", max_restarts=1, max_seconds=5, on_intensity="degrade"))
        a = await d.start_child(child("a", log))
        b = await d.start_child(child("b", log))
        for _ in range(2):
            a.cast_nowait(Crash())
        await settle()
        assert d.state == "degraded"
        (event,) = [event for event in log.seen(ActorDegraded) if event.path == "t/d"]
        assert len(event.history) == 2
        assert all(isinstance(crash.error, Boom) for crash in event.history)
        for ref in (a, b):
            with pytest.raises(NotRunning):
                await ref.call(Get())
        assert log.of("terminate")[-1][:4] == ("b", 1, "shutdown", False)
        with pytest.raises(NotRunning, match="degraded"):
            await d.start_child(child("c"))
        assert await other.call(Get()) == 0
        await s.restart_child("d")  # revived, from its spec
        await d.start_child(child("c"))


@seeded()
async def test_a_child_with_its_own_intensity_degrades_alone() -> None:
    log = Log()
    async with system(log, max_restarts=0) as s:
        sibling = await s.start_child(child("sibling", log))
        ref = await s.start_child(child("a", log, max_restarts=2, max_seconds=10.0))
        for _ in range(3):
            await ref.cast(Crash())
            await settle()
        assert ref.state == "degraded"
        (event,) = log.seen(ActorDegraded)
        assert (event.path, len(event.history)) == ("t/a", 3)
        with pytest.raises(Degraded, match="it crashed too often") as caught:
            await ref.call(Get())
        assert len(caught.value.history) == 3
        assert log.of("terminate")[-1] == ("a", 3, "crash", False)
        assert [line for line in log.of("init") if line[0] == "sibling"] == [("sibling", 1)]
        await s.restart_child("a")
        assert await ref.call(Get()) == 0
        assert await sibling.call(Get()) == 0


@seeded()
async def test_escalation_restarts_the_supervisor_with_its_living_places() -> None:
    log = Log()
    async with system(log) as s:
        d = await s.start_child(DynamicSupervisorSpec("d", max_restarts=1, max_seconds=5, backoff=NOW))
        refs = {name: await d.start_child(child(name, log)) for name in "abc"}
        await d.start_child(child("gone", log, restart="temporary"))
        refs["b"].cast_nowait(Crash())
        refs["b"].cast_nowait(Crash())
        refs["b"].cast_nowait(Add(5))
        log.lines.clear()
        await settle()
        # same places, same mailboxes, start order; the temporary child has ended with its supervisor
        assert list(d.children()) == ["a", "b", "c"]
        assert [line[0] for line in log.of("init")][-3:] == ["a", "b", "c"]
        assert await refs["b"].call(Get()) == 5
        for name in "ac":
            assert ("terminate", name, 1, "shutdown", True) in log.lines
            assert await refs[name].call(Get()) == 0
        assert ("terminate", "gone", 1, "shutdown", False) in log.lines
        assert s.tree().find("t/d").incarnation == 2
        assert d.children()["a"] == refs["a"]


def test_the_root_gives_up_with_the_history() -> None:
    async def run() -> None:
        async with open_system("t", random=random.Random(1), max_restarts=1) as s:
            ref = await s.start_child(child("a"))
            for _ in range(2):
                await ref.cast(Crash())
            await trio.sleep_forever()

    with pytest.raises(IntensityExceeded, match="t: more than 1 restarts in 5 s") as caught:
        trio.run(run)
    assert len(caught.value.history) == 2
    assert "while handling Crash: Boom: on demand" in str(caught.value)


@seeded()
async def test_nested_escalation_goes_up_until_someone_mends_it() -> None:
    log = Log()
    async with system(log) as s:
        inner = SupervisorSpec("inner", children=[child("a", log)], max_restarts=0, backoff=NOW)
        outer = await s.start_child(SupervisorSpec("outer", children=[inner], max_restarts=0, backoff=NOW))
        a = ref_of(outer.child("inner"), "a")
        await a.cast(Crash())
        await settle()
        assert [event.path for event in log.seen(SupervisorGaveUp)] == ["t/outer/inner", "t/outer"]
        assert await a.call(Get()) == 0
        assert log.of("terminate")[0][3] is True
        assert log.seen(PlaceClosed) == []
        # one line a place, although the supervisors' last crashes carry a history
        restarted = "running 0.0 s; restarts 1; last crash"
        assert s.tree().render().splitlines() == [
            "t  running 0.0 s",
            f"'- outer  {restarted} IntensityExceeded: t/outer: more than 0 restarts in 5 s",
            f"   '- inner  {restarted} IntensityExceeded: t/outer/inner: more than 0 restarts in 5 s",
            f"      '- a  {restarted} Boom: on demand",
        ]


@seeded()
async def test_a_failing_init_at_restart_counts_as_a_crash() -> None:
    log = Log()

    def sometimes(counter: Counter) -> None:
        if counter.context.incarnation in {2, 3}:
            raise Boom("not yet")

    async with system(log) as s:
        ref = await s.start_child(child("a", log, on_init=sometimes))
        await ref.cast(Crash())
        assert await ref.call(Get()) == 0
        assert log.of("init") == [("a", 1), ("a", 4)]
        # a failed init has no terminate
        assert [line[1] for line in log.of("terminate")] == [1]
        assert s.statistics().restarts == 3


@seeded()
async def test_backoff_grows_and_starts_anew_after_a_stable_period() -> None:
    log = Log()
    async with system(log) as s:
        backoff = Backoff(initial=1.0, factor=2.0, maximum=5.0, jitter=0.25, reset_after=60.0)
        ref = await s.start_child(child("a", log, backoff=backoff))

        async def crash_and_measure() -> float:
            before = trio.current_time()
            await ref.cast(Crash())
            await ref.call(Get(), timeout=100)
            return trio.current_time() - before

        for base in (1.0, 2.0, 4.0, 5.0, 5.0):
            assert 0.75 * base <= await crash_and_measure() <= base
        await trio.sleep(60)
        assert await crash_and_measure() <= 1.0
        assert len(log.seen(ActorRestarting)) == 6


@seeded()
async def test_stop_and_restart_by_hand() -> None:
    log = Log()
    closed: list[StopReason] = []
    async with system(log) as s:
        ref = await s.start_child(child("a", log, on_close=closed.append))
        await s.restart_child("a")
        assert log.of("terminate") == [("a", 1, "shutdown", True)]
        assert closed == []
        await s.stop_child("a")
        assert [reason.kind for reason in closed] == ["shutdown"]
        await s.stop_child("a")  # again: nothing happens
        await s.restart_child("a")
        assert await ref.call(Get()) == 0
        assert len(closed) == 1
    assert len(closed) == 2


@seeded()
async def test_on_close_runs_although_no_incarnation_is_there() -> None:
    closed: list[StopReason] = []
    log = Log()
    async with system(log) as s:
        slow = Backoff(initial=100, maximum=100, jitter=0)
        ref = await s.start_child(child("a", log, backoff=slow, on_close=closed.append))
        await ref.cast(Crash())
        await settle()
        assert (ref.state, closed) == ("waiting", [])
        await s.stop_child("a")
        assert (ref.state, len(closed)) == ("stopped", 1)
        assert len(log.of("terminate")) == 1
        await trio.sleep(200)
        assert len(log.of("init")) == 1


@seeded(seeds=20)
async def test_restart_races_stop() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(child("a", log))
        async with trio.open_nursery() as nursery:
            ref.cast_nowait(Crash())
            nursery.start_soon(s.stop_child, "a")
            nursery.start_soon(s.stop_child, "a")
        assert ref.state == "stopped"
        assert s.statistics().actors == 0
        assert len(log.of("init")) == len(log.of("terminate"))


@seeded()
async def test_max_restarts_zero_and_errors_in_groups_stay_whole() -> None:
    log = Log()

    async def in_a_nursery(_: Counter) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)

    async def fail() -> None:
        raise Boom("within")

    async with system(log) as s:
        with pytest.raises(ExceptionGroup) as caught:
            await s.start_child(child("a", log, on_init=in_a_nursery))
        assert isinstance(caught.value.exceptions[0], Boom)


@seeded(seeds=10)
async def test_a_cancelled_restart_by_hand_goes_on() -> None:
    log = Log()

    async def slow(_: Counter) -> None:
        await trio.sleep(2)

    async with system(log) as s:
        ref = await s.start_child(child("a", log, on_init=slow))
        for after in (0.0, 1.0):
            with trio.move_on_after(after) as scope:
                await s.restart_child("a")
            assert scope.cancelled_caught
            assert await ref.call(Get()) == 0
            assert ref.statistics().state == "running"
        assert log.of("init") == [("a", 1), ("a", 2), ("a", 3)]


@seeded(seeds=10)
async def test_restart_by_hand_raises_what_init_raised_and_the_child_is_stopped() -> None:
    log = Log()

    def fail(counter: Counter) -> None:
        if counter.context.incarnation == 2:
            raise Boom("not this time")

    async with system(log) as s:
        ref = await s.start_child(child("a", log, on_init=fail))
        with pytest.raises(Boom, match="not this time"):
            await s.restart_child("a")
        assert ref.state == "stopped"
        await s.restart_child("a")
        assert await ref.call(Get()) == 0


@seeded(seeds=30)
async def test_giving_up_in_the_middle_of_a_batch_ends_it() -> None:
    """A child of the batch crashes once too often while the next one is about to start."""
    log = Log()
    async with system(log) as s:
        g = await s.start_child(group("rest_for_one", log, max_restarts=3, max_seconds=60))
        for _ in range(8):
            ref_of(g, "b").cast_nowait(Crash())
        await trio.sleep(50)
        for name in "abcd":
            assert await ref_of(g, name).call(Get()) == 0
        assert s.tree().find("t/g").incarnation >= 2
    inits, terminates = log.of("init"), [line[:2] for line in log.of("terminate")]
    assert sorted(inits) == sorted(terminates)


@seeded(seeds=10)
async def test_a_stop_during_a_restart_by_hand_stands_and_is_told() -> None:
    log = Log()

    async def restart(supervisor: SupervisorRef) -> None:
        try:
            await supervisor.restart_child("a")
        except (ChildNotFound, NotRunning) as error:
            log.add("refused", type(error))
        else:
            log.add("restarted")

    async with system(log) as s:
        d = await s.start_child(DynamicSupervisorSpec("d"))
        ref = await d.start_child(child("a", log))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(d.stop_child, "a")
            nursery.start_soon(restart, d)
        assert ref.state == "stopped"
        assert "a" not in d.children()
        assert len(log.of("refused")) == 1
        assert s.statistics().actors == len(d.children())
        inner = await s.start_child(SupervisorSpec("inner", children=[child("a", log)]))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(restart, inner)
            nursery.start_soon(s.stop_child, "inner")
        assert len(log.of("refused")) == 2
        assert log.of("restarted") == []
