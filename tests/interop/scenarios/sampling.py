"""What else SamplingClient offers: streams, the base model, the age of its weights; and what a session has used."""

from __future__ import annotations

import pytest

from tests.interop.operation import TOKENS, Call, Tools, operation
from tinker_actors import ModelInput, SamplingParams, StaleSampler


@operation("SamplingClient.sample_stream")
async def sample_stream(tools: Tools, call: Call) -> None:
    sampler = await (await tools.service()).create_sampling_client(base_model=tools.model)
    prompt, params = ModelInput.from_ints(TOKENS[:4]), SamplingParams(max_tokens=4, temperature=0.0, stop=[])
    (whole,) = (await sampler.sample(prompt, 1, params)).sequences
    async with await call(sampler, prompt, params) as stream:
        tokens = [chunk.token_id async for chunk in stream if chunk.token_id is not None]
    assert tokens == list(whole.tokens)


@operation("SamplingClient.guard_staleness")
async def guard_staleness(tools: Tools, call: Call) -> None:
    client = await tools.trained()
    sampler = await tools.sampler(client)
    await call(sampler, 0)
    prompt, params = ModelInput.from_ints(TOKENS[:4]), SamplingParams(max_tokens=1)
    assert (await sampler.sample(prompt, 1, params)).sequences
    await tools.step(client)
    with pytest.raises(StaleSampler):
        await sampler.sample(prompt, 1, params)


@operation("SamplingClient.get_base_model")
async def get_base_model(tools: Tools, call: Call) -> None:
    client = await tools.trained()
    saved = await (await client.save_weights_for_sampler(tools.name()))
    by_path = await (await tools.service()).create_sampling_client(saved.path)
    assert await call(by_path) == tools.model


@operation("ServiceClient.usage")
async def usage(tools: Tools, call: Call) -> None:
    service = await tools.service()
    assert await call(service) == {}
    await tools.step(await tools.training(service))
    sampler = await service.create_sampling_client(base_model=tools.model)
    await sampler.sample(ModelInput.from_ints(TOKENS[:4]), 1, SamplingParams(max_tokens=3, temperature=0.0, stop=[]))
    used = (await call(service))[tools.model]
    assert (used.trained, used.prompted) == (len(TOKENS) - 1, 4)
    assert 1 <= used.sampled <= 3
