"""A job as a program of its own: python -m tests.recovery.jobs.program FOLDER STEPS [PAUSE]."""

from __future__ import annotations

import logging
import sys

import trio

from tests.recovery.jobs.data import BASE_MODEL, STEP, Deck, example
from tinker_actors import CheckpointPolicy, open_runtime


async def main(folder: str, steps: int, pause: float) -> None:
    """Train, print each step, and the weights at the end."""
    policy = CheckpointPolicy(every_steps=2)
    async with (
        open_runtime() as runtime,
        runtime.job(
            "job", base_model=BASE_MODEL, rank=2, seed=7, steps=steps, folder=folder, checkpoints=policy
        ) as job,
    ):
        deck = job.track("deck", Deck(5))
        for step in job.steps():
            noise = float(job.generator.random())
            loss = await job.client.forward_backward([example(number) for number in deck.draw(job.rng, 3)])
            await job.client.optim_step(STEP)
            job.log({"loss": (await loss).metrics["loss:sum"], "noise": noise})
            print(f"step {step}", flush=True)
            await trio.sleep(pause)
        print(f"loop left: {job.stopped}", flush=True)
        model_id = job.client.model_id
    print(f"end {job.done} {model_id}", flush=True)


logging.basicConfig(level=logging.INFO)
trio.run(main, sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
