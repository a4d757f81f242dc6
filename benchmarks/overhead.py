"""What does the runtime add to a training step beyond waiting for the server?

Steps as in the demo (32 words, rank 16; two steps are accepted beyond the one that is awaited) against the local
server in a process of its own. What is not waiting in the client's process is CPU (all of its threads): that per
step is the overhead. It and the step's wall time are compared with what the step takes in the engine alone, without
server and network, in this process (CPU time, so the wall time's ratio is fair on a machine with a core to spare).
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from itertools import cycle, islice

import trio

import tinker_actors as ta
from benchmarks.demo_work import RANK, training_data
from benchmarks.engine import step_seconds
from benchmarks.measured import Meter, Usage
from benchmarks.rows import Row
from benchmarks.server_process import BASE_MODEL, KEY, server_process

__all__ = ["run"]

STEPS = 20
RUNS = 3
_BATCHES = 4
_AHEAD = 2
_ENGINE = "the engine alone"


def run(runs: int = RUNS, steps: int = STEPS) -> list[Row]:
    """The rows; medians of ``runs`` blocks of ``steps`` steps, after one block for warm-up."""
    batches = training_data(min(_BATCHES, steps))
    with server_process() as url:
        usages = trio.run(_train, url, list(islice(cycle(batches), steps)), runs + 1)[1:]
    engine = 1000 * step_seconds(batches, runs)
    cpu = statistics.median(1000 * usage.cpu / steps for usage in usages)
    wall = statistics.median(1000 * usage.wall / steps for usage in usages)
    note = f"median of {runs} blocks of {steps} steps"
    beside = f"{note}; there {engine:.4g} of CPU time"
    return [
        Row(figure="runtime_cpu_per_step", value=cpu, unit="ms", versus=_ENGINE, ratio=cpu / engine, note=beside),
        Row(figure="wall_per_step", value=wall, unit="ms", versus=_ENGINE, ratio=wall / engine, note=beside),
        Row(figure="runtime_share_of_step", value=100 * cpu / wall, unit="%", note=f"of the wall time; {note}"),
    ]


async def _train(url: str, batches: Sequence[list[ta.Datum]], blocks: int) -> list[Usage]:
    async with ta.open_runtime(base_url=url, api_key=KEY) as runtime:
        service = await runtime.create_service_client()
        client = await service.create_lora_training_client(BASE_MODEL, rank=RANK, train_unembed=False)
        usages: list[Usage] = []
        for _ in range(blocks):
            meter = Meter()
            await _block(client, batches)
            usages.append(meter.stop())
        return usages


async def _block(client: ta.TrainingClient, batches: Sequence[list[ta.Datum]]) -> None:
    under_way = deque[tuple[ta.Future[ta.ForwardBackwardOutput], ta.Future[ta.OptimStepResponse]]]()
    for data in batches:
        forward_backward = await client.forward_backward(data, "cross_entropy")
        optim_step = await client.optim_step(ta.AdamParams(learning_rate=1e-4, eps=1e-8))
        under_way.append((forward_backward, optim_step))
        if len(under_way) > _AHEAD:
            await _settle(*under_way.popleft())
    for step in under_way:
        await _settle(*step)


async def _settle(
    forward_backward: ta.Future[ta.ForwardBackwardOutput], optim_step: ta.Future[ta.OptimStepResponse]
) -> None:
    await forward_backward
    await optim_step
