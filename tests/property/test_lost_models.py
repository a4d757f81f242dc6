"""P1 to P3 where servers lose sessions and models: random operations and losses end as the undisturbed run does."""

from __future__ import annotations

from typing import Literal

import msgspec
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.property.test_simulated_runs import TWO_STEPS
from tinker_actors.clients.training.events import ModelRebuilt
from tinker_actors.config import Config, RecoveryPolicy
from tinker_actors.local import ServerSettings
from tinker_actors.testing.faults import FaultPlan
from tinker_actors.testing.operations import (
    BASE_MODEL,
    Program,
    ProgramResults,
    fault_plans,
    programs,
    run_program,
    start_client,
)
from tinker_actors.testing.oracle import expected
from tinker_actors.testing.simulation import Outcome, World, simulate
from tinker_actors.types import SessionCancelled

PATIENT = Config.load(
    base_url="https://server",
    api_key="tml-test",
    environ={},
    outage_bound=3600.0,
    recovery=RecoveryPolicy(max_attempts=1000),
)
EXAMPLES = max(200, settings().max_examples)


class Loss(msgspec.Struct, frozen=True):
    """What the server loses, so many virtual seconds after the one before."""

    after: float
    what: Literal["session", "model"]


LOSSES = st.lists(st.builds(Loss, st.floats(0.0, 0.3), st.sampled_from(["session", "model"])), min_size=1, max_size=3)


def run(
    program: Program, plan: FaultPlan, losses: list[Loss], seed: int, config: Config = PATIENT
) -> Outcome[ProgramResults]:
    async def sabotage(world: World) -> None:
        for loss in losses:
            await trio.sleep(loss.after)
            if loss.what == "session":
                for session in world.service.sessions.alive():
                    await world.service.end_session(session, "was lost", SessionCancelled(), abandon=True)
            else:
                for model in world.service.models.values():
                    model.close("it was lost", abandon=True)

    async def scenario(world: World) -> ProgramResults:
        service = await world.runtime.create_service_client()
        client = world.watch(await start_client(service))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sabotage, world)
            results = await run_program(program, client)
            nursery.cancel_scope.cancel()
        await world.settle()
        return results

    return simulate(
        scenario,
        seed=seed,
        plan=plan,
        settings=ServerSettings(
            base_model=BASE_MODEL,
            fwdbwd_max_chunk_len=program.chunk_len,
            parallel_fwdbwd_chunks=program.parallel_chunks,
        ),
        config=config,
        limit=20_000.0,
    )


@settings(max_examples=EXAMPLES)
@given(programs(), fault_plans(), LOSSES, st.integers(0, 2**32 - 1))
@example(TWO_STEPS, FaultPlan(()), [Loss(0.02, "session")], 0)
@example(TWO_STEPS, FaultPlan(()), [Loss(0.02, "model"), Loss(0.1, "session")], 0)
def test_any_run_that_loses_its_models_ends_as_the_undisturbed_one(
    program: Program, plan: FaultPlan, losses: list[Loss], seed: int
):
    check(program, run(program, plan, losses, seed))


@settings(max_examples=EXAMPLES // 4)
@given(programs(), fault_plans(), LOSSES, st.integers(0, 2**32 - 1), st.integers(1, 2000))
@example(TWO_STEPS, FaultPlan(()), [Loss(0.02, "session")], 0, 1)
def test_so_does_one_whose_memory_holds_next_to_nothing(
    program: Program, plan: FaultPlan, losses: list[Loss], seed: int, replay_bytes: int
):
    policy = RecoveryPolicy(max_attempts=1000, replay_bytes=replay_bytes, spill_bytes=10_000_000, checkpoints=None)
    check(program, run(program, plan, losses, seed, msgspec.structs.replace(PATIENT, recovery=policy)))


def check(program: Program, outcome: Outcome[ProgramResults]) -> None:
    (model,) = outcome.models
    truth = expected(program)
    assert model.digest == truth.digest, "the weights of the undisturbed run, bit for bit"
    assert outcome.value.losses == truth.results.losses
    assert outcome.value.samples == truth.results.samples
    training = ("forward_backward", "optim_step")
    accepted = [digest for one in model.accepted if one.kind in training for digest in one.digests]
    applied = [one.digest for one in model.applied if one.kind in training]
    assert applied == accepted[len(accepted) - len(applied) :], "in order, each once, since the state it was given"


def test_most_of_these_runs_do_rebuild():
    rebuilt = sum(
        any(
            isinstance(event, ModelRebuilt)
            for event in run(TWO_STEPS, FaultPlan(()), [Loss(0.02 * n, what)], n).events
        )
        for n in range(5)
        for what in ("session", "model")
    )
    assert rebuilt >= 6
