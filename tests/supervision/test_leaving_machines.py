"""State machines whose calls are cancelled when their callers leave: the handler is, what comes after it never."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import pytest
import trio

from supervision import (
    ActorCrashed,
    Call,
    CallTimeout,
    Cast,
    ChildSpec,
    LateReply,
    StateMachine,
    handles,
    in_state,
    on_enter,
    on_state_timeout,
)
from supervision.testing import run_seeded
from tests.supervision.world import NOW, Log, seeded, settle, system


class Spin(Call[str], frozen=True):
    """Works for a second in two steps, then turns the lathe on, which takes another second."""

    cancel_on_leave: ClassVar[bool] = True


class SpinGently(Spin, frozen=True):
    """One that its machine has declared no handler for."""


class Flick(Call[str], frozen=True):
    """Turns it on at once."""

    cancel_on_leave: ClassVar[bool] = True


class Look(Call[str], frozen=True):
    pass


class Touch(Cast, frozen=True):
    pass


class Lathe(StateMachine[Literal["off", "on"]]):
    initial = "off"
    states = ("off", "on")

    def __init__(self, log: Log) -> None:
        self.log = log

    @handles(Spin)
    async def spin(self, message: Spin) -> str:
        self.goto("on")
        self.state_timeout(5.0)
        try:
            for _ in range(2):
                await trio.sleep(0.5)
        except trio.Cancelled:
            self.log.add("cancelled")
            raise
        self.log.add("worked")
        return "spun"

    @handles(Flick)
    def flick(self, message: Flick) -> str:
        self.goto("on")
        self.state_timeout(5.0)
        return "flicked"

    @on_enter("on")
    async def turned_on(self, previous: str | None) -> None:
        self.log.add("entering", previous)
        for _ in range(2):
            await trio.sleep(0.5)
        self.log.add("entered", previous)

    @on_state_timeout("on")
    def enough(self) -> None:
        self.log.add("enough")
        self.goto("off")

    @in_state("off", "on")
    @handles(Look)
    def look(self, message: Look) -> str:
        return self.state

    @handles(Touch)
    def touch(self, message: Touch) -> None:
        pass


def lathe(log: Log) -> ChildSpec:
    return ChildSpec("lathe", lambda: Lathe(log), backoff=NOW)


MOVED = [("worked",), ("entering", "off"), ("entered", "off")]


@seeded()
async def test_a_caller_that_leaves_while_the_new_state_is_entered_changes_nothing_but_the_reply() -> None:
    for strict in (False, True):
        for message, works in ((Spin(), 1.0), (SpinGently(), 1.0), (Flick(), 0.0)):
            log = Log()
            async with system(log, strict_replies=strict) as s:
                ref = await s.start_child(lathe(log))
                with pytest.raises(CallTimeout):
                    await ref.call(message, timeout=works + 0.75)
                assert len(log.of("entering")) == 1
                assert await ref.call(Look()) == "on"
                assert log.lines == (MOVED if works else MOVED[1:])
                assert len(log.seen(LateReply)) == s.statistics().late_replies == 1
                assert log.seen(ActorCrashed) == []
                await trio.sleep(6)
                assert log.of("enough") == [()]  # the state's timeout counts
                assert ref.place.system.leaving == {}


@seeded()
async def test_a_handler_that_is_cancelled_has_moved_nothing() -> None:
    for strict in (False, True):
        for message in (Spin(), SpinGently()):
            log = Log()
            async with system(log, strict_replies=strict) as s:
                ref = await s.start_child(lathe(log))
                with pytest.raises(CallTimeout):
                    await ref.call(message, timeout=0.75)
                await ref.cast(Touch())  # goes nowhere, neither where the other wanted to
                assert await ref.call(Look()) == "off"
                await trio.sleep(6)
                assert log.lines == [("cancelled",)]
                assert (log.seen(LateReply), log.seen(ActorCrashed)) == ([], [])
                assert s.statistics().timers == 0
                assert await ref.call(Spin()) == "spun"
                assert await ref.call(Look()) == "on"


class LeaveAt(trio.abc.Instrument):
    """Lets the caller leave before one of the scheduler's steps."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.scope = trio.CancelScope()
        self.steps = -1
        """Before the call is made none are counted."""

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.steps >= 0:
            if self.steps == self.step:
                self.scope.cancel()
            self.steps += 1


def test_a_leave_at_any_step_leaves_the_machine_in_one_of_two_states() -> None:
    """Where it was, or in the new one, entered; never between the two."""
    for seed in range(2):
        outcomes: list[str] = []
        for step in range(100):
            instrument = LeaveAt(step)
            run_seeded(leave_at, instrument, outcomes, seed=seed, limit=1e5, instruments=[instrument])
            if instrument.steps <= step:
                break
        assert set(outcomes) == {"withdrawn", "cancelled", "late", "answered"}
        assert outcomes == sorted(outcomes, key=["withdrawn", "cancelled", "late", "answered"].index)
        assert outcomes.count("late") >= 2


async def leave_at(leaving: LeaveAt, outcomes: list[str]) -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(lathe(log))
        await settle()
        replies: list[str] = []
        leaving.steps = 0
        with leaving.scope:
            replies.append(await ref.call(Spin(), timeout=math.inf))
        if leaving.steps > leaving.step:
            assert leaving.scope.cancelled_caught != bool(replies)
        look = await ref.call(Look())
        late = len(log.seen(LateReply))
        assert (log.seen(ActorCrashed), ref.place.system.leaving) == ([], {})
        if look == "on":
            assert log.lines == MOVED
            assert late == (not replies)
            outcomes.append("answered" if replies else "late")
        else:
            assert (log.lines, late, replies) in (([("cancelled",)], 0, []), ([], 0, []))
            outcomes.append("cancelled" if log.lines else "withdrawn")
            assert s.statistics().timers == 0
        assert await ref.call(Spin()) == "spun"
        assert await ref.call(Look()) == "on"
