"""The same job in plain Python: python -m tests.recovery.jobs.plain_program FOLDER STEPS [PAUSE]."""

from __future__ import annotations

import sys
import time

from tests.recovery.jobs.data import BASE_MODEL, STEP, Deck, example
from tinker_actors import CheckpointPolicy, blocking_runtime


def main(folder: str, steps: int, pause: float) -> None:
    """Train, print each step, and the model at the end."""
    policy = CheckpointPolicy(every_steps=2)
    with (
        blocking_runtime() as runtime,
        runtime.job(
            "job", base_model=BASE_MODEL, rank=2, seed=7, steps=steps, folder=folder, checkpoints=policy
        ) as job,
    ):
        deck = job.track("deck", Deck(5))
        for step in job.steps():
            noise = float(job.generator.random())
            loss = job.client.forward_backward([example(number) for number in deck.draw(job.rng, 3)])
            job.client.optim_step(STEP)
            job.log({"loss": loss.result().metrics["loss:sum"], "noise": noise})
            print(f"step {step}", flush=True)
            time.sleep(pause)
        print(f"loop left: {job.stopped}", flush=True)
        model_id = job.client.model_id
    print(f"end {job.done} {model_id}", flush=True)


main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
