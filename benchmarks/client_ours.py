"""tinker-actors as the measured process: ``python -m benchmarks.client_ours sample|train|memory URL``."""

from __future__ import annotations

import sys

import trio

import tinker_actors as ta
from benchmarks import workload
from benchmarks.canned import MODEL, SAMPLED_TOKENS
from benchmarks.measured import Meter, Usage, memory_now, memory_peak, report, reset_memory_peak

KEY = "tml-benchmark"


async def sample(url: str) -> dict[str, Usage]:
    """SAMPLES samples at once, after a warm-up."""
    async with ta.open_runtime(base_url=url, api_key=KEY) as runtime:
        service = await runtime.create_service_client()
        client = await service.create_sampling_client(base_model=MODEL)
        parameters = ta.SamplingParams(max_tokens=SAMPLED_TOKENS)

        async def one(prompt: list[int]) -> None:
            response = await client.sample(ta.ModelInput.from_ints(prompt), 1, parameters)
            assert len(response.sequences[0].tokens) == SAMPLED_TOKENS

        async def all_at_once(prompts: list[list[int]]) -> None:
            async with trio.open_nursery() as nursery:
                for prompt in prompts:
                    nursery.start_soon(one, prompt)

        await all_at_once(workload.prompts(workload.WARM_UP_SAMPLES))
        prompts = workload.prompts(workload.SAMPLES)
        meter = Meter()
        await all_at_once(prompts)
        return {"sample": meter.stop()}


async def train(url: str) -> dict[str, Usage]:
    """STEPS steps of forward_backward and optim_step, pipelined, after one for warm-up."""
    return await _train(url, memory=False)


async def memory(url: str) -> dict[str, Usage]:
    """The resident size before one step, and its highest during it, after a small step for warm-up."""
    return await _train(url, memory=True)


async def _train(url: str, *, memory: bool) -> dict[str, Usage]:
    async with ta.open_runtime(base_url=url, api_key=KEY) as runtime:
        service = await runtime.create_service_client()
        client = await service.create_lora_training_client(MODEL, rank=8)
        examples = workload.sequences()
        building = Meter()
        data = [
            ta.Datum(ta.ModelInput.from_ints(tokens), {"target_tokens": targets, "weights": weights})
            for tokens, targets, weights in examples
        ]
        built = building.stop()

        async def step(data: list[ta.Datum]) -> None:
            forward_backward = await client.forward_backward(data, "cross_entropy")
            optim_step = await client.optim_step(ta.AdamParams(learning_rate=1e-4))
            output = await forward_backward
            await optim_step
            assert len(output.loss_fn_outputs) == len(data)
            assert len(output.loss_fn_outputs[-1]["logprobs"].to_numpy()) == workload.TOKENS

        if memory:
            await step(data[:1])
            before = memory_now()
            reset_memory_peak()
            await step(data)
            return {"before": before, "step": memory_peak()}
        await step(data)
        meter = Meter()
        for _ in range(workload.STEPS):
            await step(data)
        return {"build": built, "train": meter.stop()}


if __name__ == "__main__":
    report(trio.run({"sample": sample, "train": train, "memory": memory}[sys.argv[1]], sys.argv[2]))
