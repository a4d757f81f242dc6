"""P1 to P6 through whole programs: 500 random cases, each with clients, faults and a schedule of its own."""

from __future__ import annotations

import os
from collections.abc import Callable

from tinker_actors.testing.campaign.search import explain, search

RUNS = 500


def test_every_run_keeps_every_promise_and_the_runs_cover_every_fault(record_property: Callable[[str, object], None]):
    outcome = search(0, RUNS)
    smaller = os.environ.get("HYPOTHESIS_PROFILE") != "mutants"  # a planted bug is known
    assert not outcome.findings, "\n".join(explain(one, smaller=smaller) for one in outcome.findings[:1])
    assert outcome.coverage.runs == RUNS
    assert outcome.coverage.gaps() == ()
    record_property("summary", f"simulation: {outcome.coverage}")
