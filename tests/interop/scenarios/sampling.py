"""What else SamplingClient offers: streams, and the age of its weights."""

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
