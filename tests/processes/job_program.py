"""A training program, started again and again until its job is done: ``python job_program.py URL FOLDER STEPS``.

Its last line is the path of the final checkpoint once the job is done, and "stopped" before that.
"""

from __future__ import annotations

import sys

import trio

import tinker_actors as ta
from tests.local.process import KEY, TINY
from tests.processes.names import JOB
from tinker_actors.testing.operations import datum

PAUSE = 0.1  # seconds: so that a step is not too short to be hit


async def main(url: str, folder: str, steps: int) -> None:
    """Train, two steps ahead of the rows."""
    policy = ta.CheckpointPolicy(every_steps=3)
    config = ta.Config.load(base_url=url, api_key=KEY, environ={})
    async with ta.open_runtime(config=config) as runtime:
        block = runtime.job(JOB, base_model=TINY, rank=2, seed=7, steps=steps, checkpoints=policy, folder=folder)
        async with block as job:
            ahead: list[tuple[int, ta.Future[ta.ForwardBackwardOutput]]] = []

            async def log(left: int) -> None:
                while len(ahead) > left:
                    step, future = ahead.pop(0)
                    job.log({"loss": (await future).metrics["loss:sum"]}, step=step)

            for step in job.steps():
                data = [datum(job.rng.randrange(1000)) for _ in range(3)]
                job.position += 1
                ahead.append((step, await job.client.forward_backward(data)))
                await job.client.optim_step(ta.AdamParams(learning_rate=1e-2))
                await log(2)
                await trio.sleep(PAUSE)
            await log(0)
        print(job.client.checkpoints.saved[-1].path if job.done else "stopped", flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
