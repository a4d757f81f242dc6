"""What telemetry costs an operation: next to nothing, in function calls and in steps of the scheduler."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio

from benchmarks.counters import Counters, count
from supervision.testing import run_seeded
from tests.clients.odd_server import OddServer
from tinker_actors.config import Config
from tinker_actors.ports import InlineOffload
from tinker_actors.runtime import Runtime, open_runtime
from tinker_actors.testing.network import open_network
from tinker_actors.testing.operations import datum
from tinker_actors.types import AdamParams, ModelInput, SamplingParams

MOST = 1.02
TIMES = 200


async def steps(runtime: Runtime) -> Counters:
    service = await runtime.create_service_client()
    client = await service.create_lora_training_client("a/b", 2)
    data = [datum(1)]

    async def operations(times: int) -> None:
        for _ in range(times):
            losses = await client.forward_backward(data)
            update = await client.optim_step(AdamParams())
            await losses
            await update

    return await count(operations, TIMES)


async def samples(runtime: Runtime) -> Counters:
    service = await runtime.create_service_client()
    client = await service.create_sampling_client(base_model="a/b")
    prompt, params = ModelInput.from_ints([1, 2, 3]), SamplingParams(max_tokens=1)

    async def operations(times: int) -> None:
        for _ in range(times):
            await client.sample(prompt, 1, params)

    return await count(operations, TIMES)


def counted(work: Any, *, on: bool) -> Counters:
    async def run() -> Counters:
        config = Config.load(base_url="https://server", api_key="tml-test", environ={}, telemetry_enabled=on)
        async with (
            open_network(OddServer({}, []), random=random.Random(1), latency=(0.001, 0.001)) as network,
            open_runtime(config=config, transport=network.transport(), seed=1, offload=InlineOffload()) as runtime,
        ):
            await trio.sleep(1.0)
            return await work(runtime)

    return run_seeded(run, seed=1)


@pytest.mark.parametrize("work", [steps, samples])
def test_an_operation_costs_the_same_with_telemetry_on(work: Any):
    off, on = counted(work, on=False), counted(work, on=True)
    assert off.calls > 500
    assert off.steps > 5
    assert on.calls <= off.calls * MOST, (on, off)
    assert on.steps <= off.steps * MOST, (on, off)
