"""The 28 traps of trio that an actor library falls into, each against our own code.

Most have their test elsewhere: TRAPS names it. Those below are the rest.
"""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest
import trio

from supervision import (
    Actor,
    ActorCrashed,
    ActorDown,
    ActorEnded,
    ActorStarted,
    ActorStuck,
    Call,
    CallTimeout,
    ChildSpec,
    NotRunning,
    PlaceClosed,
    StopReason,
    SupervisorSpec,
    handles,
)
from tests.supervision.world import NOW, Boom, Get, Log, Nap, child, seeded, settle, system

TRAPS: dict[int, tuple[str, ...]] = {
    # a crash of one child cancels its siblings
    1: ("test_supervisor.py::test_a_child_with_its_own_intensity_degrades_alone",),
    # `except Exception` misses a group with Cancelled in it
    2: ("test_traps.py::test_a_mixed_group_is_a_crash_and_goes_nowhere",),
    # the own scope strips Cancelled: what is left is the crash
    3: (
        "test_traps.py::test_a_mixed_group_is_a_crash_and_goes_nowhere",
        "test_faults.py::test_what_terminate_raises_is_a_crash_report_and_stops_nothing",
    ),
    # a nursery hides the type of an error in a group
    4: ("test_supervisor.py::test_max_restarts_zero_and_errors_in_groups_stay_whole",),
    # a swallowed Cancelled comes again at once: a busy loop, and there is no kill
    5: (
        "test_traps.py::test_who_swallows_cancelled_again_and_again_is_reported_and_holds_up_nobody",
        "test_shutdown.py::test_who_swallows_cancelled_is_reported_stuck",
    ),
    # cleaning up needs a shield, and a shield a deadline
    6: ("test_shutdown.py::test_terminate_is_bounded",),
    # a shield outlives the parent's deadline
    7: ("test_shutdown.py::test_one_deadline_cascades",),
    # a late reply wakes its caller out of another wait
    8: ("test_traps.py::test_a_late_reply_wakes_no_other_wait",),
    # a second reply crashes the one who replies
    9: ("test_calls.py::test_replying_twice_and_outside_of_a_call",),
    # a message handed over in the step of a cancellation is lost
    10: ("test_testing.py::test_casts_are_conserved_at_every_step",),
    # what start() raises is in no group, but what runs later is
    11: ("test_start.py::test_start_child_raises_what_init_raised",),
    # a child that returns before it has said that it started
    12: ("test_traps.py::test_who_ends_in_its_init_has_started",),
    # until it has started a child runs in its starter's scope, and then not any more
    13: (
        "test_start.py::test_a_cancelled_start_leaves_nothing",
        "test_traps.py::test_who_has_started_outlives_its_starters_scope",
    ),
    # context variables of the starter leak in
    14: ("test_start.py::test_context_variables_of_the_starter_do_not_leak_in",),
    # cancelling a nursery ends its children in any order
    15: ("test_shutdown.py::test_outer_cancellation_ends_in_order_and_terminates_everyone",),
    # starting after the close is a RuntimeError, and in a cancelled nursery it works
    16: (
        "test_start.py::test_start_after_the_system_has_ended",
        "test_traps.py::test_nobody_takes_a_step_who_is_started_while_all_stop",
    ),
    # a thread can't be cancelled
    17: ("test_faults.py::test_a_handler_in_a_thread_is_reported_stuck_and_waited_for",),
    # a reason that is kept keeps the dead one's state
    18: ("test_shutdown.py::test_nothing_is_left",),
    # whoever waits for a dead one waits for ever
    19: (
        "test_calls.py::test_the_call_in_hand_fails_at_once_and_is_not_repeated",
        "test_calls.py::test_deferred_replies_fail_when_the_incarnation_ends",
        "test_mailbox.py::test_what_is_queued_when_a_place_closes_is_reported",
    ),
    # a tick keeps virtual time from jumping
    20: ("test_tasks_and_timers.py::test_the_timer_task_never_ticks_and_its_heap_stays_small",),
    # the order of tasks is random
    21: ("test_testing.py::test_one_seed_gives_one_schedule",),
    # a reply and a cancellation in one step
    22: ("test_calls.py::test_reply_and_cancel_in_the_same_step",),
    # actors that call each other in a ring
    23: ("test_watching.py::test_call_cycles_raise_and_acyclic_calls_do_not",),
    # ^C and SystemExit are no crashes
    24: ("test_shutdown.py::test_keyboard_interrupt_and_system_exit_pass",),
    # a cancellation can say why
    25: ("test_traps.py::test_a_killed_handler_can_read_why",),
    # a restart under an outer cancellation never ends
    26: ("test_shutdown.py::test_outer_cancellation_never_restarts",),
    # context variables survive a restart in the same task
    27: ("test_start.py::test_context_variables_of_the_starter_do_not_leak_in",),
    # a handler's own timeout is an ordinary error
    28: ("test_traps.py::test_a_handlers_own_timeout_is_a_crash",),
}


def test_each_trap_has_its_test() -> None:
    folder = Path(__file__).parent
    assert list(TRAPS) == list(range(1, 29))
    for trap, tests in TRAPS.items():
        assert tests, trap
        for where in tests:
            file, name = where.split("::")
            names = {getattr(node, "name", "") for node in ast.parse((folder / file).read_text("utf-8")).body}
            assert name in names, f"{trap}: {where}"


def test_who_swallows_cancelled_again_and_again_is_reported_and_holds_up_nobody() -> None:
    """Real time: it spins, and virtual time would stand still. It is reported all the same, and the rest stops."""
    log = Log()
    spins = 0

    class Spinning(Actor):
        @handles(Nap)
        async def nap(self, message: Nap) -> str:
            nonlocal spins
            enough = trio.current_time() + 5
            while not (log.seen(ActorStuck) and log.of("terminate")) and trio.current_time() < enough:
                try:
                    await trio.sleep_forever()
                except BaseException:
                    spins += 1
            return "had enough"

        async def terminate(self, reason: StopReason) -> None:
            log.add("at last", str(reason))

    async def run() -> None:
        async with system(log) as s:
            await s.start_child(child("below", log))
            ref = await s.start_child(ChildSpec("a", Spinning, shutdown=0.02))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ref.call, Nap(), math.inf)
                await trio.sleep(0.01)
                nursery.cancel_scope.cancel()

    trio.run(run)
    (stuck,) = log.seen(ActorStuck)
    assert stuck.path == "t/a"
    assert spins > 10
    # the sibling was stopped meanwhile, and the end of the other was waited for
    assert [line[0] for line in log.lines] == ["init", "terminate", "at last"]


@seeded()
async def test_who_ends_in_its_init_has_started() -> None:
    log = Log()
    async with system(log) as s:
        ref = await s.start_child(child("a", log, restart="transient", on_init=lambda actor: actor.context.stop()))
        await settle()
        assert ref.state == "stopped"
        assert log.of("terminate") == [("a", 1, "normal", False)]
        mine = [type(event) for event in log.events if event.path == "t/a"]
        assert mine == [ActorStarted, ActorEnded, PlaceClosed]


@seeded()
async def test_who_has_started_outlives_its_starters_scope() -> None:
    async def slow(_: object) -> None:
        await trio.sleep(1)

    async with system() as s:
        with trio.move_on_after(5) as scope:
            ref = await s.start_child(child("a", on_init=slow))
            await trio.sleep(50)
        assert scope.cancelled_caught
        await trio.sleep(100)
        assert await ref.call(Get()) == 0
        assert ref.place.number == 1


@seeded()
async def test_nobody_takes_a_step_who_is_started_while_all_stop() -> None:
    log = Log()
    refused: list[str] = []

    class Closing(Actor):
        async def terminate(self, reason: StopReason) -> None:
            for start in (self.context.supervisor.start_child, self.context.system.start_child):
                try:
                    await start(child("late", log))
                except NotRunning as error:
                    refused.append(str(error))

    with trio.CancelScope() as outer:
        async with system(log) as s:
            await s.start_child(SupervisorSpec("g", children=[ChildSpec("a", Closing)]))
            outer.cancel()
    assert [text.partition(" is")[0] for text in refused] == ["t/g", "t"]
    assert all("stopping; it can't start 'late'" in text for text in refused)
    assert log.of("init") == []


@seeded()
async def test_a_mixed_group_is_a_crash_and_goes_nowhere() -> None:
    """Boom and the actor's own Cancelled in one group: stopped while a nursery of its own fails."""
    log = Log()

    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom("in the cleanup")

    class Nursing(Actor):
        @handles(Nap)
        async def nap(self, message: Nap) -> str:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail_when_cancelled)
                nursery.start_soon(trio.sleep_forever)
            return "never"

    async with system(log) as s:
        sibling = await s.start_child(child("sibling"))
        ref = await s.start_child(ChildSpec("a", Nursing, shutdown=0, backoff=NOW))
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ActorDown):
                    await ref.call(Nap())

            nursery.start_soon(ask)
            await settle()
            await s.stop_child("a")
        (event,) = log.seen(ActorCrashed)
        assert isinstance(event.crash.error, ExceptionGroup)
        assert [type(error) for error in event.crash.error.exceptions] == [Boom]
        assert await sibling.call(Get()) == 0
        assert ref.state == "stopped"


@seeded()
async def test_a_late_reply_wakes_no_other_wait() -> None:
    async with system() as s:
        ref = await s.start_child(child("a"))
        with pytest.raises(CallTimeout):
            await ref.call(Nap(3.0), timeout=1.0)
        before = trio.current_time()
        await trio.sleep(10)  # the reply comes within
        assert trio.current_time() - before == 10
        assert s.statistics().late_replies == 1


@seeded()
async def test_a_killed_handler_can_read_why() -> None:
    reasons: list[str] = []

    class Reader(Actor):
        @handles(Nap)
        async def nap(self, message: Nap) -> str:
            try:
                await trio.sleep_forever()
            except trio.Cancelled as cancelled:
                reasons.append(str(cancelled))
                raise
            return "never"

        async def terminate(self, reason: StopReason) -> None:
            reasons.append(str(reason))

    async with system() as s:
        ref = await s.start_child(ChildSpec("a", Reader, shutdown=1))
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ActorDown, match="its grace was over"):
                    await ref.call(Nap())

            nursery.start_soon(ask)
            await settle()
            await s.stop_child("a")
    assert "t/a is stopped" in reasons[0]
    assert reasons[1] == "killed (cancelled while handling Nap: its grace was over)"


class Relayed(Call[int], frozen=True):
    pass


@seeded()
async def test_a_handlers_own_timeout_is_a_crash() -> None:
    log = Log()
    async with system(log) as s:
        slow = await s.start_child(child("slow"))

        class Impatient(Actor):
            @handles(Relayed)
            async def relay(self, message: Relayed) -> int:
                await slow.call(Nap(50.0), timeout=1.0)
                return 1

            @handles(Get)
            async def own(self, message: Get) -> int:
                with trio.fail_after(1):
                    await trio.sleep(2)
                return 1

        ref = await s.start_child(ChildSpec("a", Impatient, backoff=NOW))
        with pytest.raises(ActorDown, match="crash: CallTimeout"):
            await ref.call(Relayed())
        with pytest.raises(ActorDown, match="crash: TooSlowError"):
            await ref.call(Get())
        assert s.statistics().restarts == 2
