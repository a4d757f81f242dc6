"""Blocks of jobs, and what one leaves on the disk."""

from __future__ import annotations

from typing import Any

from tests.clients.scenario import batch
from tests.recovery.jobs.data import STEP
from tests.recovery.jobs.lives import FOLDER, Lives
from tinker_actors.metrics import ModelUsage, Price
from tinker_actors.recovery.jobs import Job, JobFolder, ResumeRecord
from tinker_actors.runtime import Runtime
from tinker_actors.testing.operations import BASE_MODEL

PRICES = {BASE_MODEL: Price(trained=1_000_000.0, prompted=0.0, sampled=0.0)}


async def record(lives: Lives, name: str = "job") -> ResumeRecord:
    found = await JobFolder(lives.disk, FOLDER, name).load()
    assert found is not None
    return found


async def usage(lives: Lives, name: str = "job") -> dict[str, ModelUsage]:
    return await JobFolder(lives.disk, FOLDER, name).load_usage()


def job(runtime: Runtime, **options: Any) -> Any:
    """The block of a job."""
    return runtime.job(
        options.pop("name", "job"),
        **{"base_model": BASE_MODEL, "rank": 2, "seed": 7, "steps": 4, "folder": FOLDER, "catch_signals": False}
        | options,
    )


async def one_step(job: Job, seed: int = 1) -> None:
    await job.client.forward_backward(batch(seed))
    await (await job.client.optim_step(STEP))
