"""P1 to P6 through whole programs: 500 random cases, each with clients, faults and a schedule of its own."""

from __future__ import annotations

from collections.abc import Callable

from tinker_actors.testing.campaign.search import explain, search

RUNS = 500


def test_every_run_keeps_every_promise_and_the_runs_cover_every_fault(record_property: Callable[[str, object], None]):
    outcome = search(0, RUNS)
    assert not outcome.findings, "\n".join(map(explain, outcome.findings[:1]))
    assert outcome.coverage.runs == RUNS
    assert outcome.coverage.gaps() == ()
    record_property("summary", f"simulation: {outcome.coverage}")
