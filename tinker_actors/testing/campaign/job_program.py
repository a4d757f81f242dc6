"""A job as a case: a training run whose process may die, and whose program is run again until it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from tinker_actors.config import CheckpointPolicy
from tinker_actors.errors import DiskError
from tinker_actors.testing.operations import ADAPTER_SEED, BASE_MODEL, RANK, datum
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams

__all__ = ["JobProgram", "JobResult", "run_job"]

_FOLDER: Final = Path("/jobs")
_NAME: Final = "job"
_SEEDS: Final = 1000
_RUNS: Final = 20  # of the program, where a disk has no room


class JobProgram(msgspec.Struct, frozen=True, kw_only=True):
    """A job of ``steps``, with a checkpoint after ``every`` of them; results are awaited ``ahead`` steps late."""

    steps: int
    every: int
    ahead: int


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
            waiting.append((step, await job.client.forward_backward(batch)))
            await job.client.optim_step(AdamParams(learning_rate=1e-2))
            await log(program.ahead)
        await log(0)
        await job.client.get_info()
        digest = await world.server.digest(job.client.model_id) or ""
    rows = await world.disk.read(_FOLDER / _NAME / "metrics.jsonl")
    return JobResult(digest=digest, rows=tuple(rows.splitlines()))
