"""Invariants of errors: which of them are crashes, and which come out of the system."""

from __future__ import annotations

from collections import Counter as Tally
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from supervision import (
    ActorCrashed,
    ActorEnded,
    ActorSystem,
    Cast,
    ChildSpec,
    StopReason,
    SupervisorSpec,
    handles,
)
from supervision.testing import run_seeded
from tests.property.programs import NapCast, common, seeds
from tests.supervision.world import (
    NOW,
    Add,
    Boom,
    Counter,
    Get,
    Log,
    child,
    settle,
    system,
)


class RaiseGroup(Cast, frozen=True):
    """Raise what the function makes of a Cancelled."""

    make: Any


class Raiser(Counter):
    @handles(RaiseGroup)
    async def raise_group(self, message: RaiseGroup) -> None:
        # One's own scope, cancelled: its Cancelled, kept beyond it, stands for one that was swept up with errors.
        with trio.CancelScope() as own:
            own.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as cancelled:
                kept = cancelled
        raise message.make(kept)

    @handles(NapCast)
    async def until_cancelled(self, message: NapCast) -> None:
        await trio.sleep_forever()


class Mixed(Cast, frozen=True):
    """Wait to be cancelled, then raise what the function makes of it."""

    make: Any


class Mixer(Raiser):
    @handles(Mixed)
    async def mixed(self, message: Mixed) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            raise message.make(cancelled) from None


leaves = st.sampled_from(["boom", "other", "cancelled"])


shapes = st.recursive(leaves, lambda below: st.lists(below, min_size=1, max_size=3), max_leaves=6)


def build(shape: Any, cancelled: trio.Cancelled) -> BaseException:
    if isinstance(shape, list):
        return BaseExceptionGroup("made", [build(one, cancelled) for one in shape])
    return {"boom": Boom("made"), "other": LookupError("made"), "cancelled": cancelled}[shape]


def leaves_of(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for member in error.exceptions for leaf in leaves_of(member)]
    return [error]


def flat(shape: Any) -> set[str]:
    return set().union(*map(flat, shape)) if isinstance(shape, list) else {shape}


@common
@given(shapes, st.sampled_from(["by itself", "stopped", "outer"]), seeds)
def test_a_group_with_an_error_is_a_crash_and_a_cancellation_is_none(shape: Any, how: str, seed: int) -> None:
    """Groups of errors and Cancelled, of any shape: raised by itself; when told to stop; when the world is cancelled.

    With an error in it it is a crash, kept whole. Cancelled alone is the end that was ordered; it goes on, out of the
    system, only if it came from there.
    """
    real = flat(shape) != {"cancelled"}
    made: list[BaseException] = []

    def make(cancelled: trio.Cancelled) -> BaseException:
        made.append(build(shape, cancelled))
        return made[0]

    async def run() -> None:
        log = Log()
        passed = False
        with trio.CancelScope() as outer:
            async with system(log) as s:
                ref = await s.start_child(ChildSpec("a", lambda: Mixer(log), backoff=NOW, shutdown=1.0))
                await ref.cast(RaiseGroup(make) if how == "by itself" else Mixed(make))
                await settle()
                if how == "by itself":
                    assert await ref.call(Get()) == 0
                    assert ref.place.number == 2
                elif how == "stopped":
                    await s.stop_child("a")
                    passed = True
                else:
                    outer.cancel()
                    await trio.sleep_forever()
            passed = True
        assert passed is (how != "outer")
        assert outer.cancelled_caught is (how == "outer")
        reasons = [event.reason for event in log.seen(ActorEnded) if event.path == "t/a"]
        assert len(reasons) == (2 if how == "by itself" else 1)
        crashes = log.seen(ActorCrashed)
        if real or how == "by itself":
            (crash,) = crashes
            # what its own scope was cancelled with is no part of it
            kept = [leaf for leaf in leaves_of(made[0]) if how == "by itself" or not isinstance(leaf, trio.Cancelled)]
            assert list(map(id, leaves_of(crash.crash.error))) == list(map(id, kept))
            assert (reasons[0].kind, reasons[0].error) == ("crash", crash.crash.error)
        else:
            assert crashes == []
            assert reasons[0].kind == ("killed" if how == "stopped" else "cancelled")
        assert reasons[-1].restarting is False

    run_seeded(run, seed=seed)


class Fatal(Counter):
    """Raises something fatal somewhere."""

    def __init__(self, log: Log, where: str, error: type[BaseException]) -> None:
        super().__init__(log)
        self.where = where
        self.error = error

    async def init(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.where == "init":
            raise self.error
        await super().init()

    async def terminate(self, reason: StopReason) -> None:
        await super().terminate(reason)
        if self.where == "terminate":
            raise self.error

    async def fail(self) -> None:
        await trio.sleep(0.5)
        raise BaseExceptionGroup("in a task", [self.error(), Boom()]) if self.where == "group" else self.error

    @handles(Add)
    async def add(self, message: Add) -> None:
        if self.where == "handler":
            raise self.error
        if self.where in {"task", "group"}:
            self.context.start_task(self.fail)
        if self.where == "nursery":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.fail)


@common
@given(
    st.sampled_from(["init", "handler", "task", "group", "nursery", "terminate"]),
    st.sampled_from([KeyboardInterrupt, SystemExit]),
    st.integers(0, 3),
    st.integers(0, 3),
    seeds,
)
def test_what_no_supervisor_may_mend_comes_out_of_the_system_from_any_depth(
    where: str, error: type[BaseException], depth: int, siblings: int, seed: int
) -> None:
    """It ends the system in order, every terminate() runs, nothing is restarted, and it is raised to the caller."""
    log = Log()
    entered: list[ActorSystem] = []

    async def run() -> None:
        async with system(log) as s:
            entered.append(s)
            at: Any = s
            for level in range(depth):
                for n in range(siblings):
                    await at.start_child(child(f"l{level}n{n}", log))
                at = await at.start_child(SupervisorSpec(f"g{level}"))
            ref = await at.start_child(ChildSpec("fatal", lambda: Fatal(log, where, error), backoff=NOW))
            await ref.cast(Add())
            await trio.sleep(1)
            if where == "terminate":
                return
            await trio.sleep_forever()

    with pytest.raises(BaseException) as caught:
        run_seeded(run, seed=seed, limit=100)
    assert any(type(leaf) is error for leaf in leaves_of(caught.value))
    if where not in {"group", "nursery"}:
        assert type(caught.value) is error
    (s,) = entered
    assert (s.statistics().actors, s.statistics().restarts, s.statistics().timers) == (0, 0, 0)
    assert Tally(log.of("init")) == Tally(line[:2] for line in log.of("terminate"))
