"""A job that trains on what its own model samples ends the same, whatever happens to process, server and network."""

from __future__ import annotations

import pytest
import trio

from tests.recovery.jobs.blocks import job
from tests.recovery.jobs.data import STEP
from tests.recovery.jobs.lives import Died, Lives, in_lives
from tinker_actors.config import CheckpointPolicy
from tinker_actors.runtime import Runtime
from tinker_actors.testing.campaign.case import Case
from tinker_actors.testing.campaign.checks import violations
from tinker_actors.testing.campaign.job_program import JobProgram
from tinker_actors.testing.campaign.run import run_case
from tinker_actors.testing.faults import (
    CrashActor,
    DropAfter,
    ExpireSessions,
    Fault,
    FaultPlan,
    KillRuntime,
    LosePromises,
    PauseQueue,
    RestartServer,
    Status,
)
from tinker_actors.testing.operations import PROMPT
from tinker_actors.types import Datum, ModelInput, SamplingParams

STEPS = 5


async def learn(lives: Lives, runtime: Runtime, dies_at: int | None) -> list[list[int]]:
    """What was sampled, step by step; each is trained on."""
    seen: list[list[int]] = []
    async with job(runtime, steps=STEPS, checkpoints=CheckpointPolicy(every_steps=2)) as run:
        for step in run.steps():
            sampler = await run.client.save_weights_and_get_sampling_client()
            answer = await sampler.sample(PROMPT, 1, SamplingParams(max_tokens=4))  # a seed of the client's own
            tokens = PROMPT.to_ints() + answer.sequences[0].tokens.tolist()
            seen.append(tokens)
            example = Datum(
                ModelInput.from_ints(tokens[:-1]),
                {"target_tokens": tokens[1:], "weights": [1.0] * (len(tokens) - 1)},
            )
            loss = await run.client.forward_backward([example])
            await (await run.client.optim_step(STEP))
            run.log({"loss": (await loss).metrics["loss:sum"]}, step=step)
            if step == dies_at:
                await trio.sleep(10.0)
                lives.die()
                await trio.sleep_forever()
    return seen


@pytest.mark.parametrize("dies_at", [1, 2, 3, 4])
def test_a_death_changes_nothing_of_what_is_sampled_afterwards(dies_at: int) -> None:
    async def story(lives: Lives) -> tuple[list[list[int]], list[bytes]]:
        with pytest.raises(Died):
            await lives.live(lambda runtime: learn(lives, runtime, dies_at))
        return await lives.live(lambda runtime: learn(lives, runtime, None)), await lives.rows()

    async def whole(lives: Lives) -> tuple[list[list[int]], list[bytes]]:
        return await lives.live(lambda runtime: learn(lives, runtime, None)), await lives.rows()

    (seen, rows), (all_seen, all_rows) = in_lives(story), in_lives(whole)
    assert len({str(one) for one in all_seen}) > 1
    assert seen == all_seen[dies_at - dies_at % 2 :], "from the last record on, or anew where there is none yet"
    assert rows == all_rows


@pytest.mark.parametrize(
    "faults",
    [
        (DropAfter(path="/asample", nth=2), LosePromises(path="/retrieve_future", nth=9)),
        (ExpireSessions(path="/asample", nth=2), ExpireSessions(path="/retrieve_future", nth=14)),
        (RestartServer(path="/asample", nth=2, keeps="disk", down=5.0), KillRuntime(step=600)),
        (CrashActor(step=180, actor="sampler-0"), PauseQueue(path="/asample", nth=2, seconds=60.0)),
        (Status(path="/asample", nth=2, times=3, status=429, retry_after=3.0), KillRuntime(step=400)),
        (Status(path="/save_weights_for_sampler", nth=2, status=410), KillRuntime(step=500)),
    ],
    ids=str,
)
def test_faults_at_its_samples_change_nothing_of_the_job(faults: tuple[Fault, ...]) -> None:
    program = JobProgram(steps=4, every=2, ahead=1, samples=True)
    case = Case(seed=5, sessions=(), plan=FaultPlan(faults), job=program)
    outcome = run_case(case)
    assert {type(fired.fault) for fired in outcome.fired} == {type(fault) for fault in faults}
    assert violations(case, outcome) == ()
