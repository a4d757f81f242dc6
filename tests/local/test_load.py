"""Thousands of samples at one time, over real sockets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio

from tests.local.process import KEY, TINY, serving
from tinker_actors import ModelInput, SampleResponse, SamplingParams, open_runtime

pytestmark = pytest.mark.process


def megabytes(pid: int, what: str) -> float:
    """``VmHWM``, the highest resident size of a process so far, or ``VmRSS``, that of now."""
    found = re.search(rf"^{what}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.parametrize("count", [1_000, pytest.param(5_000, marks=pytest.mark.ci)])
async def test_concurrent_samples_all_succeed_within_bounded_memory(count: int) -> None:
    answers: dict[int, SampleResponse] = {}
    with serving() as served:
        async with open_runtime(base_url=served.url, api_key=KEY, seed=0) as runtime:
            service = await runtime.create_service_client()
            sampler = await service.create_sampling_client(base_model=TINY)
            before = megabytes(served.process.pid, "VmRSS")

            async def sample(number: int) -> None:
                prompt = ModelInput.from_ints([1, 3 + number % 29])
                answers[number] = await sampler.sample(prompt, 1, SamplingParams(max_tokens=2, stop=[], seed=number))

            async with trio.open_nursery() as nursery:
                for number in range(count):
                    nursery.start_soon(sample, number)
            assert len(answers) == count
            assert {len(answer.sequences[0].tokens) for answer in answers.values()} == {2}
            counted = runtime.counters()
            assert counted["samples_done"] == count
            assert not {"sample_requests_failed", "poll_requests_failed", "retries", "samples_repeated"} & set(
                counted
            )
            peak = megabytes(served.process.pid, "VmHWM")
    # of each its connection for a moment, and its promise and result for an hour: 5,000 take about 25 MB
    assert peak - before < 100
