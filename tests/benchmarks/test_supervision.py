from __future__ import annotations

import shutil
import sys

import pytest

from benchmarks import supervision


@pytest.mark.ci
def test_every_figure_is_there_and_the_counters_keep_their_goals() -> None:
    """Few repeats: of the times only that they were taken."""
    rows = {row.figure: row for row in supervision.run(rounds=1, calls=200, many=50)}
    counters = {
        f"{name}_{kind}"
        for name in ("call", "call_inf", "cast", "bounded_cast", "start_child", "restart")
        for kind in ("steps", "calls")
    }
    assert counters <= set(rows)
    quotients = {
        "call_vs_pingpong",
        "call_inf_vs_floor",
        "callers_100_vs_pingpong",
        "cast_vs_send_nowait",
        "bounded_cast_vs_channel",
        "start_child_vs_nursery_start",
        "traced_call_vs_untraced",
        "traced_restart_vs_untraced",
        "call_vs_pykka_ask",
        "cast_vs_pykka_tell",
    }
    if shutil.which("escript") is not None:
        quotients |= {"call_vs_erlang", "cast_vs_erlang", "restart_vs_erlang"}
    assert quotients <= set(rows)
    assert {
        "idle_actor_bytes",
        "hibernated_actor_bytes",
        "restart_us",
        "start_50_s",
        "stop_50_s",
        "start_stop_50_s",
    } <= set(rows)
    for figure in counters | quotients:
        assert rows[figure].versus is not None
        assert rows[figure].ratio is not None
    assert all(rows[figure].value == rows[figure].ratio for figure in quotients)
    assert 1000 < rows["idle_actor_bytes"].value < 6000
    assert rows["hibernated_actor_bytes"].value < rows["idle_actor_bytes"].value
    if sys.version_info[:2] == (3, 11):
        # few repeats round the counters up: what begins and ends a run is counted in
        assert rows["call_steps"].value == pytest.approx(2.0, abs=0.05)
        assert rows["call_calls"].value <= 105
        assert rows["restart_calls"].value <= 310
