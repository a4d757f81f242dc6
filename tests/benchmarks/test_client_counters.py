"""Gates on what an operation costs the client, in counters that are the same on every machine."""

from __future__ import annotations

import sys

import msgspec
import pytest

from benchmarks.client_counters import KINDS, client_counters, counter_rows


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="the counters are gated for Python 3.11; another minor counts otherwise"
)
@pytest.mark.parametrize("kind", KINDS)
def test_an_operation_costs_no_more(kind: str):
    found, most = client_counters(kind), KINDS[kind].most
    for name in most.__struct_fields__:
        value, limit = getattr(found, name), getattr(most, name)
        assert value <= limit, f"{kind} takes {value:.6g} {name}"
        assert value >= 0.85 * limit, f"{kind} takes {value:.6g} {name} only: lower its gate"


def test_they_are_the_same_each_time_and_stand_in_the_table():
    (kind, *_) = KINDS
    found = msgspec.structs.asdict(client_counters(kind))
    rows = {row.figure: row for row in counter_rows()}
    assert {name: rows[f"{kind}_{name}"].value for name in found} == found
    assert len(rows) == 4 * len(KINDS)
    assert all(row.goal is not None for row in rows.values())


def test_steps_ahead_share_what_waits():
    alone, ahead = client_counters("step"), client_counters("pipelined_step")
    assert ahead.requests == alone.requests
    assert ahead.steps < alone.steps
