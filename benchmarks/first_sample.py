"""A process that samples one token and ends: ``python -m benchmarks.first_sample ours|sdk URL BASE_MODEL KEY``.

It prints the system's monotonic clock, in seconds, when the token is there.
"""

from __future__ import annotations

import sys
import time


async def ours(url: str, base_model: str, key: str) -> None:
    import tinker_actors as ta

    async with ta.open_runtime(base_url=url, api_key=key) as runtime:
        service = await runtime.create_service_client()
        client = await service.create_sampling_client(base_model=base_model)
        response = await client.sample(ta.ModelInput.from_ints([1, 2, 3]), 1, ta.SamplingParams(max_tokens=1))
        assert len(response.sequences[0].tokens) == 1
        print(time.monotonic(), flush=True)


async def sdk(url: str, base_model: str, key: str) -> None:
    import tinker

    service = tinker.ServiceClient(base_url=url, api_key=key)
    client = await service.create_sampling_client(base_model=base_model)
    response = await client.sample(tinker.ModelInput.from_ints([1, 2, 3]), 1, tinker.SamplingParams(max_tokens=1))
    assert len(response.sequences[0].tokens) == 1
    print(time.monotonic(), flush=True)


if __name__ == "__main__":
    name, address, model, api_key = sys.argv[1:]
    if name == "ours":
        import trio

        trio.run(ours, address, model, api_key)
    else:
        import asyncio

        asyncio.run(sdk(address, model, api_key))
