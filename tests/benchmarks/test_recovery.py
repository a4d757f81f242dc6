"""What recovery costs: gates on the ledger's function calls, and every figure taken once, as short as can be."""

from __future__ import annotations

import sys

import pytest

from benchmarks import recovery
from benchmarks.ledger_cost import ledger_calls

MOST = {False: 256.0, True: 400.0}
"""Calls of the ledger's functions for a step of 4 datums, without and with spilling it."""


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="the counters are gated for Python 3.11; another minor counts otherwise"
)
@pytest.mark.parametrize("spilled", MOST)
def test_the_ledger_costs_no_more_of_a_step(spilled: bool):
    found = ledger_calls(4, 16, steps=40, spilled=spilled)
    assert found.ledger <= MOST[spilled], f"a step takes {found.ledger:.6g} calls"
    assert found.ledger >= 0.85 * MOST[spilled], f"a step takes {found.ledger:.6g} calls only: lower its gate"
    assert found.share < 14.0


@pytest.mark.ci
@pytest.mark.process
def test_every_figure_is_taken():
    found = recovery.run(datums=2, tokens=64, steps=2, crashes=2, unfinished=10, restarts=1, replays=2, hours=0.1)
    rows = {row.figure: row for row in found}
    assert set(rows) == {
        "ledger_share_of_client",
        "ledger_share_of_client_calls",
        "spill_loop_time_per_step",
        "spill_write_per_mb",
        "spill_read_per_mb",
        "actor_crash_to_next_message",
        "training_client_crash_to_next_send",
        "server_restart_to_training",
        "server_restart_without_memory_to_training",
        "replay_speed",
        "simulated_hours_per_minute",
    }
    assert all(row.value > 0 for row in rows.values())
    must = {"ledger_share_of_client": 5.0, "spill_loop_time_per_step": 1.0, "actor_crash_to_next_message": 50.0}
    goals = {figure: rows[figure].goal for figure in must}
    assert {figure: goal.must for figure, goal in goals.items() if goal is not None} == must
    assert rows["replay_speed"].versus == "the first run"
