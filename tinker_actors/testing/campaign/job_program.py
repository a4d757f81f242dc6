"""A job as a case: a training run whose process may die, and whose program is run again until it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from tinker_actors.config import CheckpointPolicy
from tinker_actors.errors import DiskError
from tinker_actors.recovery.jobs import Job
from tinker_actors.testing.operations import ADAPTER_SEED, BASE_MODEL, PROMPT, RANK, SAMPLED_TOKENS, datum
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, Datum, ModelInput, SamplingParams

__all__ = ["JobProgram", "JobResult", "run_job"]

_FOLDER: Final = Path("/jobs")
_NAME: Final = "job"
_SEEDS: Final = 1000
_RUNS: Final = 20  # of the program, where a disk has no room


class JobProgram(msgspec.Struct, frozen=True, kw_only=True):
    """A job of ``steps``, with a checkpoint after ``every`` of them; results are awaited ``ahead`` steps late.

    With ``samples`` each step trains on what its model gave as it was before, with seeds of the client's own.
    """

    steps: int
    every: int
    ahead: int
    samples: bool = False


class JobResult(msgspec.Struct, frozen=True, kw_only=True):
    """The weights at its end, and the rows of its metrics.jsonl."""

    digest: str
    rows: tuple[bytes, ...]


async def run_job(world: World, program: JobProgram) -> JobResult:
    """Run the program to its end; again where the disk has refused it."""
    for _ in range(_RUNS):
        try:
            return await _train(world, program)
        except DiskError:
            await trio.sleep(1.0)  # until somebody has made room
    raise AssertionError("the job does not come to its end")


async def _train(world: World, program: JobProgram) -> JobResult:
    async with world.runtime.job(
        _NAME,
        base_model=BASE_MODEL,
        rank=RANK,
        seed=ADAPTER_SEED,
        steps=program.steps,
        checkpoints=CheckpointPolicy(every_steps=program.every),
        folder=_FOLDER,
        catch_signals=False,
    ) as job:
        waiting: list[tuple[int, Any]] = []

        async def log(left: int) -> None:
            while len(waiting) > left:
                step, future = waiting.pop(0)
                job.log({"loss": (await future).metrics["loss:sum"]}, step=step)

        for step in job.steps():
            batch = [datum(job.rng.randrange(_SEEDS)) for _ in range(3)]
            if program.samples:
                batch.extend(await _sampled(job))
            waiting.append((step, await job.client.forward_backward(batch)))
            await job.client.optim_step(AdamParams(learning_rate=1e-2))
            await log(program.ahead)
        await log(0)
        await job.client.get_info()
        digest = await world.server.digest(job.client.model_id) or ""
    rows = await world.disk.read(_FOLDER / _NAME / "metrics.jsonl")
    return JobResult(digest=digest, rows=tuple(rows.splitlines()))


async def _sampled(job: Job) -> list[Datum]:
    """What the model gives, as examples."""
    sampler = await job.client.save_weights_and_get_sampling_client()
    answer = await sampler.sample(PROMPT, 2, SamplingParams(max_tokens=SAMPLED_TOKENS))
    given = [PROMPT.to_ints() + sequence.tokens.tolist() for sequence in answer.sequences]
    return [
        Datum(ModelInput.from_ints(tokens[:-1]), {"target_tokens": tokens[1:], "weights": [1.0] * (len(tokens) - 1)})
        for tokens in given
    ]
