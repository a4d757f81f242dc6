"""The fault model: everything that is assumed to go wrong, and the tests in which it does.

Wherever a fault may meet another one, test_fault_sweeps.py lets that happen at every step.
"""

from __future__ import annotations

import ast
from pathlib import Path

from tests.supervision.test_fault_sweeps import FAULTS as IN_SWEEPS


def swept(fault: str) -> str:
    """The sweep that lets a second fault strike at every step around this one."""
    return f"test_fault_sweeps.py::test_a_second_fault_at_every_step[{fault}]"


FAULTS: dict[str, tuple[str, ...]] = {
    # what a user's code may do
    "a handler raises an Exception": (
        "test_calls.py::test_the_call_in_hand_fails_at_once_and_is_not_repeated",
        swept("a_handler_raises"),
    ),
    "a handler raises a group": (
        "test_supervisor.py::test_max_restarts_zero_and_errors_in_groups_stay_whole",
        swept("a_handler_raises_a_group"),
    ),
    "a handler raises a group with Cancelled in it": (
        "test_traps.py::test_a_mixed_group_is_a_crash_and_goes_nowhere",
        swept("a_handler_raises_a_mixed_group"),
    ),
    "init raises": (
        "test_start.py::test_start_child_raises_what_init_raised",
        "test_supervisor.py::test_a_failing_init_at_restart_counts_as_a_crash",
        "test_faults.py::test_a_group_out_of_init_is_raised_whole_at_the_starter_and_counts_at_a_restart",
        "test_faults.py::test_a_mixed_group_out_of_init_that_is_cancelled_is_the_starters",
        "test_testing.py::test_a_start_cut_at_any_step_leaves_nothing",
        swept("init_raises"),
    ),
    "terminate raises": (
        "test_faults.py::test_what_terminate_raises_is_a_crash_report_and_stops_nothing",
        swept("terminate_raises"),
        swept("terminate_raises_a_mixed_group"),
    ),
    "a monitor's callback raises": (
        "test_faults.py::test_a_monitors_callback_that_raises_disturbs_nobody",
        swept("callbacks_raise"),
    ),
    "a listener of events raises": (
        "test_watching.py::test_listeners_are_isolated_and_subscriptions_end",
        swept("callbacks_raise"),
    ),
    "a handler returns without a reply": (
        "test_faults.py::test_a_reply_that_is_dropped_ends_as_a_timeout_that_says_so_or_with_the_actor",
        swept("a_reply_is_dropped"),
    ),
    "it replies twice": ("test_calls.py::test_replying_twice_and_outside_of_a_call", swept("it_replies_twice")),
    "it replies from another task": (
        "test_calls.py::test_a_deferred_reply_comes_from_a_task_and_the_mailbox_stays_free",
        "test_faults.py::test_a_reply_from_another_actor_or_after_the_end_changes_nothing",
    ),
    "it replies after its death": (
        "test_faults.py::test_a_reply_from_another_actor_or_after_the_end_changes_nothing",
    ),
    "it swallows Cancelled": (
        "test_shutdown.py::test_who_swallows_cancelled_is_reported_stuck",
        swept("it_swallows_cancelled"),
    ),
    "it blocks the loop": ("test_observing.py::test_who_holds_the_loop_is_told",),
    "it blocks in a thread": (
        "test_faults.py::test_a_handler_in_a_thread_is_reported_stuck_and_waited_for",
        "test_threads.py::test_who_does_not_abandon_is_reported_and_waited_for",
        "test_threads.py::test_a_thread_left_behind_takes_its_room_in_the_next_incarnation_too",
    ),
    "a task that it has started crashes later": (
        "test_tasks_and_timers.py::test_a_tasks_crash_is_the_actors",
        swept("a_task_crashes_later"),
    ),
    "a poison message crashes each incarnation": (
        "test_mailbox.py::test_redelivery_is_opt_in_and_bounded",
        swept("a_poison_message"),
    ),
    # what callers may do
    "the mailbox is full": (
        "test_mailbox.py::test_a_full_mailbox_makes_senders_wait_in_order",
        "test_mailbox.py::test_reject_and_drop_oldest",
        "test_watching.py::test_blocked_sends_are_edges_too",
        swept("the_mailbox_is_full"),
    ),
    "the caller is cancelled": (
        "test_calls.py::test_a_cancelled_caller_withdraws_and_the_actor_goes_on",
        "test_calls.py::test_reply_and_cancel_in_the_same_step",
        swept("the_caller_leaves"),
    ),
    "the caller times out": (
        "test_calls.py::test_late_reply_changes_nothing_but_a_counter",
        swept("the_caller_leaves"),
    ),
    "the caller crashes": (
        "test_faults.py::test_a_caller_that_ends_leaves_its_callee_alone",
        swept("the_caller_leaves"),
    ),
    # what goes wrong above and around
    "the supervisor crashes": (
        "test_supervisor.py::test_escalation_restarts_the_supervisor_with_its_living_places",
        "test_supervisor.py::test_the_root_gives_up_with_the_history",
        swept("the_supervisor_crashes"),
    ),
    "init hangs": (
        "test_start.py::test_a_cancelled_start_leaves_nothing",
        "test_faults.py::test_an_init_that_hangs_at_a_restart_holds_up_its_own_place_alone",
        swept("init_hangs"),
    ),
    "terminate hangs": (
        "test_shutdown.py::test_terminate_is_bounded",
        "test_shutdown.py::test_one_deadline_cascades",
        swept("terminate_hangs"),
    ),
    "the clock jumps": (
        "test_faults.py::test_a_clock_that_jumps_fires_what_is_due_once_and_in_order",
        swept("the_clock_jumps"),
    ),
    "a storm: a thousand children crash at once": (
        "test_faults.py::test_a_crash_storm_of_a_thousand_children",
        swept("a_storm"),
    ),
    "a storm of restarts goes up the tree": (
        "test_supervisor.py::test_nested_escalation_goes_up_until_someone_mends_it",
        swept("a_storm_up_the_tree"),
    ),
    "a dependency is down for minutes": (
        "test_faults.py::test_a_dependency_that_is_down_for_minutes_is_waited_for",
        "test_supervisor.py::test_backoff_grows_and_starts_anew_after_a_stable_period",
    ),
    "memory pressure: the collector runs between any two steps": (
        "test_faults.py::test_a_collection_at_every_step_changes_nothing",
    ),
    "^C in each phase": (
        "test_signals.py::test_a_signal_in_each_phase_ends_all_in_order",
        "test_signals.py::test_an_interrupt_breaks_a_handler_that_spins_and_a_second_one_a_terminate_that_hangs",
        "test_testing.py::test_an_interrupt_at_every_step",
        swept("a_handler_raises"),
    ),
    "SIGTERM in each phase": ("test_signals.py::test_a_signal_in_each_phase_ends_all_in_order",),
    "the scope around is cancelled, or its deadline comes, in each phase": (
        "test_testing.py::test_cancel_and_crash_at_every_step",
        "test_testing.py::test_a_deadline_at_every_step",
        swept("a_handler_raises"),
    ),
}

NOT_APPLICABLE = {
    "the process of an actor dies": "an actor is a task of this process: it has none to lose",
}


def test_each_fault_has_its_tests() -> None:
    folder = Path(__file__).parent
    known: dict[str, set[str]] = {}
    for fault, tests in FAULTS.items():
        assert tests, fault
        for test in tests:
            file, name = test.partition("[")[0].split("::")
            if file not in known:
                tree = ast.parse((folder / file).read_text("utf-8"))
                known[file] = {
                    node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
                }
            assert name in known[file], f"{fault}: {test}"
    assert len(FAULTS) + len(NOT_APPLICABLE) == 32


def test_each_fault_that_can_meet_another_is_swept() -> None:
    named = {test for tests in FAULTS.values() for test in tests if "[" in test}
    assert named == {swept(fault.__name__) for fault in IN_SWEEPS}
