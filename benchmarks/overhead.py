"""What does the runtime add to a training step beyond waiting for the server?

Steps as in the demo (64 datums of 24 tokens, forward_backward and optim_step pipelined) against the local server
in a process of its own. What is not waiting in the client's process is CPU: that per step is the overhead; its
share is of the step's wall time.
"""

from __future__ import annotations

import statistics

import trio

from benchmarks.measured import Meter, Usage
from benchmarks.rows import Row
from benchmarks.server_process import BASE_MODEL, KEY, server_process

__all__ = ["run"]

DATUMS = 64
TOKENS = 24
STEPS = 20
RUNS = 3


def run(runs: int = RUNS, steps: int = STEPS) -> list[Row]:
    """The rows; medians of ``runs`` blocks of ``steps`` steps, after one block for warm-up."""
    with server_process() as url:
        usages = trio.run(_train, url, runs + 1, steps)[1:]
    cpu = statistics.median(1000 * usage.cpu / steps for usage in usages)
    wall = statistics.median(1000 * usage.wall / steps for usage in usages)
    note = f"{DATUMS} datums of {TOKENS} tokens; median of {runs} blocks of {steps} steps"
    return [
        Row(figure="runtime_cpu_per_step", value=cpu, unit="ms", note=note),
        Row(figure="wall_per_step", value=wall, unit="ms", note=note),
        Row(figure="runtime_share_of_step", value=100 * cpu / wall, unit="%", note=note),
    ]


async def _train(url: str, blocks: int, steps: int) -> list[Usage]:
    import tinker_actors as ta

    async with ta.open_runtime(base_url=url, api_key=KEY) as runtime:
        service = await runtime.create_service_client()
        client = await service.create_lora_training_client(BASE_MODEL, rank=8)
        examples = [[(3 * i + number) % 60 + 1 for i in range(TOKENS + 1)] for number in range(DATUMS)]
        data = [ta.Datum(ta.ModelInput.from_ints(ids[:-1]), {"target_tokens": ids[1:]}) for ids in examples]
        usages: list[Usage] = []
        for _ in range(blocks):
            meter = Meter()
            for _ in range(steps):
                forward_backward = await client.forward_backward(data, "cross_entropy")
                optim_step = await client.optim_step(ta.AdamParams(learning_rate=1e-4))
                await forward_backward
                await optim_step
            usages.append(meter.stop())
        return usages
