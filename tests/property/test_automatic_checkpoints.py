"""Checkpoints that a client saves by itself change nothing: whatever goes wrong, and whatever of them is pruned."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.test_lost_models import LOSSES, PATIENT, Loss, check, run
from tests.property.test_simulated_runs import TWO_STEPS
from tinker_actors.config import CheckpointPolicy, RecoveryPolicy
from tinker_actors.ledger import OperationKind
from tinker_actors.sessions import CheckpointFailed, CheckpointPruned, CheckpointSaved
from tinker_actors.testing.faults import FaultPlan, Status
from tinker_actors.testing.operations import Program, fault_plans, programs

EXAMPLES = max(60, settings().max_examples // 2)
EACH_STEP = msgspec.structs.replace(
    PATIENT,
    recovery=RecoveryPolicy(
        max_attempts=1000, checkpoints=CheckpointPolicy(every_steps=1, keep_last=1, ttl_seconds=60)
    ),
)
STATUSES = (400, 403, 409, 422, 500, 503)


@settings(max_examples=EXAMPLES)
@given(programs(), fault_plans(), LOSSES, st.integers(0, 2**32 - 1), st.sampled_from(STATUSES), st.integers(1, 6))
def test_a_run_that_saves_itself_ends_as_the_undisturbed_one(
    program: Program, plan: FaultPlan, losses: list[Loss], seed: int, status: int, nth: int
):
    refused = Status(path="/save_weights", nth=nth, status=status, times=4)
    if any(type(step).__name__ == "SaveState" for step in program.steps):
        refused = Status(path="/save_weights", nth=nth, status=503)  # its own are not to be refused for good
    outcome = run(program, FaultPlan((*plan.faults, refused)), losses, seed, EACH_STEP)
    check(program, outcome)


def test_most_of_these_runs_save_prune_and_fail():
    saved = pruned = failed = 0
    for seed in range(30):
        rng = random.Random(seed)
        refused = Status(path="/save_weights", nth=rng.randint(1, 2), status=rng.choice(STATUSES), times=4)
        faults = (refused,) if seed % 2 else ()
        outcome = run(TWO_STEPS, FaultPlan(faults), [Loss(rng.uniform(0.05, 0.2), "model")], seed, EACH_STEP)
        check(TWO_STEPS, outcome)
        saved += any(isinstance(event, CheckpointSaved) for event in outcome.events)
        pruned += any(isinstance(event, CheckpointPruned) for event in outcome.events)
        failed += any(isinstance(event, CheckpointFailed) for event in outcome.events)
        kinds = [operation.kind for operation in outcome.models[0].accepted]
        assert kinds.count(OperationKind.SAVE_STATE) == 2
    assert saved > 20
    assert pruned > 5
    assert failed > 5
