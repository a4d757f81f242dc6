"""The traps of trio that an actor library falls into, each against our own code.

Most have their test elsewhere: TRAPS names it. Those below are the rest.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import trio

from supervision import Actor, ActorCrashed, ActorDown, Call, CallTimeout, ChildSpec, StopReason, handles
from tests.supervision.world import NOW, Boom, Get, Log, Nap, child, seeded, settle, system

TRAPS = {
    "a crash cancels siblings": "test_supervisor.py::test_a_child_with_its_own_intensity_degrades_alone",
    "except Exception misses a mixed group": "test_traps.py::test_a_mixed_group_is_a_crash_and_goes_nowhere",
    "own Cancelled is stripped first": "test_traps.py::test_a_mixed_group_is_a_crash_and_goes_nowhere",
    "strict groups": "test_supervisor.py::test_max_restarts_zero_and_errors_in_groups_stay_whole",
    "a swallowed Cancelled": "test_shutdown.py::test_who_swallows_cancelled_is_reported_stuck",
    "cleanup needs a shield and a deadline": "test_shutdown.py::test_terminate_is_bounded",
    "a shield outlives the parent's limit": "test_shutdown.py::test_one_deadline_cascades",
    "a late reply wakes an unrelated wait": "test_traps.py::test_a_late_reply_wakes_no_other_wait",
    "a second reply crashes the server": "test_calls.py::test_replying_twice_and_outside_of_a_call",
    "a value handed over is lost": "test_testing.py::test_casts_are_conserved_at_every_step",
    "start's error is not wrapped": "test_start.py::test_start_child_raises_what_init_raised",
    "init runs under the caller's scope": "test_start.py::test_a_cancelled_start_leaves_nothing",
    "context variables leak": "test_start.py::test_context_variables_of_the_starter_do_not_leak_in",
    "cancelling has no order": "test_shutdown.py::test_outer_cancellation_ends_in_order_and_terminates_everyone",
    "start after close": "test_start.py::test_start_after_the_system_has_ended",
    "a reason pins the state": "test_shutdown.py::test_nothing_is_left",
    "a caller hangs when the actor dies": "test_calls.py::test_the_call_in_hand_fails_at_once_and_is_not_repeated",
    "a periodic tick": "test_tasks_and_timers.py::test_the_timer_task_never_ticks_and_its_heap_stays_small",
    "unseeded order": "test_testing.py::test_one_seed_gives_one_schedule",
    "reply and cancel in one step": "test_calls.py::test_reply_and_cancel_in_the_same_step",
    "call cycles": "test_watching.py::test_call_cycles_raise_and_acyclic_calls_do_not",
    "^C is no crash": "test_shutdown.py::test_keyboard_interrupt_and_system_exit_pass",
    "cancel reasons": "test_traps.py::test_a_killed_handler_can_read_why",
    "restart under outer cancellation": "test_shutdown.py::test_outer_cancellation_never_restarts",
    "a handler's timeout is a crash": "test_traps.py::test_a_handlers_own_timeout_is_a_crash",
}


def test_each_trap_has_its_test() -> None:
    folder = Path(__file__).parent
    for trap, where in TRAPS.items():
        file, name = where.split("::")
        names = {getattr(node, "name", "") for node in ast.parse((folder / file).read_text()).body}
        assert name in names, f"{trap}: {where}"


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
