"""P1 to P3 through the whole stack: random operations under random faults end as the undisturbed run does."""

from __future__ import annotations

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinker_actors.config import Config
from tinker_actors.local import ServerSettings
from tinker_actors.server_class import ServerClass
from tinker_actors.testing.faults import CrashAt, DropAfter, DropBefore, FaultPlan
from tinker_actors.testing.operations import (
    BASE_MODEL,
    Await,
    ForwardBackward,
    OptimStep,
    Program,
    ProgramResults,
    fault_plans,
    programs,
    run_program,
    start_client,
)
from tinker_actors.testing.oracle import expected
from tinker_actors.testing.simulation import Outcome, World, simulate

# patient enough that every plan of `fault_plans` can be mended
PATIENT = Config.load(base_url="https://server", api_key="tml-test", environ={}, outage_bound=3600.0)
EXAMPLES = max(200, settings().max_examples)


def run(program: Program, plan: FaultPlan, seed: int, *, forgetful: bool = False) -> Outcome[ProgramResults]:
    async def scenario(world: World) -> ProgramResults:
        service = await world.runtime.create_service_client()
        client = world.watch(await start_client(service))
        return await run_program(program, client)

    return simulate(
        scenario,
        seed=seed,
        plan=plan,
        settings=ServerSettings(
            base_model=BASE_MODEL,
            fwdbwd_max_chunk_len=program.chunk_len,
            parallel_fwdbwd_chunks=program.parallel_chunks,
            # and says nothing of it, while the client takes it for one that knows repeated requests
            server_class=ServerClass.NONE if forgetful else ServerClass.DEDUP,
            tells_class=not forgetful,
        ),
        config=msgspec.structs.replace(PATIENT, server_class=ServerClass.DEDUP if forgetful else None),
        limit=20_000.0,
    )


def check(program: Program, outcome: Outcome[ProgramResults]) -> None:
    (model,) = outcome.models
    accepted = [digest for operation in model.accepted for digest in operation.digests]
    applied = [operation.digest for operation in model.applied]
    assert applied == accepted, "each accepted operation exactly once, in the order of acceptance"
    assert [operation.seq_id for operation in model.applied] == list(range(1, len(applied) + 1))
    truth = expected(program)
    assert model.digest == truth.digest, "the weights of the undisturbed run, bit for bit"
    assert outcome.value.losses == truth.results.losses
    assert outcome.value.samples == truth.results.samples


TWO_STEPS = Program(
    steps=(
        ForwardBackward(seeds=(1, 2, 3)),
        OptimStep(),
        ForwardBackward(seeds=(4, 5, 6)),
        OptimStep(),
        Await(),
    ),
    chunk_len=2,
)


@settings(max_examples=EXAMPLES)
@given(programs(), fault_plans(), st.integers(0, 2**32 - 1))
@example(TWO_STEPS, FaultPlan((DropAfter(path="/forward_backward", nth=1, times=3),)), 0)
@example(TWO_STEPS, FaultPlan((DropBefore(path="/optim_step", nth=1, times=3),)), 0)
@example(TWO_STEPS, FaultPlan((CrashAt(point="training.sent", nth=1), CrashAt(point="training.polling", nth=2))), 0)
@example(TWO_STEPS, FaultPlan((CrashAt(point="training.before_send", nth=2), DropAfter(path="/optim_step"))), 0)
def test_any_mendable_run_ends_as_the_undisturbed_one(program: Program, plan: FaultPlan, seed: int):
    check(program, run(program, plan, seed))


def test_a_seed_reproduces_a_run_to_the_event():
    plan = FaultPlan((DropAfter(path="/optim_step"), CrashAt(point="training.polling", nth=3)))
    first, second = (run(TWO_STEPS, plan, 11) for _ in range(2))

    assert list(map(str, first.fired)) == list(map(str, second.fired))
    assert len(first.fired) == 2
    assert [type(event) for event in first.events] == [type(event) for event in second.events]
    assert first.seconds == second.seconds
    assert first.counters == second.counters


def test_a_server_without_deduplication_is_noticed():
    """The check itself can fail: what re-sends do to a server that applies each is seen."""
    plan = FaultPlan((DropAfter(path="/optim_step", nth=1),))
    outcome = run(TWO_STEPS, plan, 0, forgetful=True)
    (model,) = outcome.models

    assert len(model.applied) > sum(len(operation.digests) for operation in model.accepted)
    assert model.digest != expected(TWO_STEPS).digest
