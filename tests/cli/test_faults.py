"""The demo's fault plan falls due within the first third, however short the run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_actors.cli.faults import describe, fault_plan, first_third, label, short
from tinker_actors.testing.faults import CrashAt, DropAfter, DropBefore, Fired, NetworkFault


@given(st.integers(1, 10_000))
def test_every_fault_falls_due_in_the_first_third(steps: int) -> None:
    third = first_third(steps)
    assert 1 <= third <= steps
    plan = fault_plan(third)
    kinds = [type(fault) for fault in plan.faults]
    assert kinds == [CrashAt, CrashAt, DropBefore, DropAfter]
    for fault in plan.faults:
        # two operations a step, each sent once and polled once at least; one forward_backward and one optim_step
        assert 1 <= fault.nth <= (third if isinstance(fault, NetworkFault) else 2 * third)


@pytest.mark.parametrize("fault", fault_plan(50).faults)
def test_every_fault_has_words_of_its_own(fault: object) -> None:
    fired = Fired(fault=fault, subject="POST /api/v1/optim_step", at=0.0, attempt=1)  # type: ignore[arg-type]
    assert type(fault).__name__ not in describe(fired) + label(fired)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("session-0/training-0#7", "#7"), ("#7", "#7"), ("runtime/sessions/session-0", "session-0"), ("lone", "lone")],
)
def test_short_names(name: str, expected: str) -> None:
    assert short(name) == expected
