"""What does the bare transport cost as requests pile up? CPU per request and failures at 1 to 5,000 at once.

A request is a sample asked for and its result fetched, through the endpoints, straight over HttpTransport: no actor,
no retry. The canned server answers at once from a process of its own, and so does each measured client run; the
official SDK's figure is that of its own sampling client at 1,000 at once, against the same server.
"""

from __future__ import annotations

import statistics
import sys

import trio

from benchmarks import workload
from benchmarks.canned import SAMPLED_TOKENS, canned_server
from benchmarks.measured import Meter, Usage, measure, report
from benchmarks.rows import Goal, Row
from tinker_actors.config import Config
from tinker_actors.errors import APIError
from tinker_actors.types import ModelInput, SampleRequest, SampleResponse, SamplingParams
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints.futures import retrieve_future
from tinker_actors.wire.endpoints.sampling import asample
from tinker_actors.wire.transport import HttpTransport

__all__ = ["LEVELS", "run"]

LEVELS = (1, 100, 1000, 5000)
RUNS = 3
SDK = "official SDK 0.38.0"
_REQUESTS = 2  # HTTP requests for each sample
_AT_LEAST = 1000  # samples for one figure, so that few at once are measured for as long


def run(runs: int = RUNS, levels: tuple[int, ...] = LEVELS) -> list[Row]:
    """The rows; ``runs`` of each level and of the SDK, interleaved."""
    return trio.run(_run, runs, levels)


async def _run(runs: int, levels: tuple[int, ...]) -> list[Row]:
    found: dict[int, list[dict[str, Usage]]] = {level: [] for level in levels}
    sdk: list[float] = []
    async with canned_server(tokens=8) as server:
        for _ in range(runs):
            for level in levels:
                usages = await trio.to_thread.run_sync(measure, "benchmarks.transport", server.url, str(level))
                found[level].append(usages)
            theirs = await trio.to_thread.run_sync(measure, "benchmarks.client_sdk", "sample", server.url)
            sdk.append(1000 * theirs["sample"].cpu / workload.SAMPLES)
    per_request: dict[int, float] = {}
    rows: list[Row] = []
    for level in levels:
        samples = max(level, _AT_LEAST)
        each = [1e6 * usages["samples"].cpu / samples / _REQUESTS for usages in found[level]]
        per_request[level] = statistics.median(each)
        note = f"median of {runs}: {min(each):.3g} to {max(each):.3g}"
        rows.append(Row(figure=f"cpu_per_request_{level}", value=per_request[level], unit="us", note=note))
        # carried in a Usage's cpu, since reports are made of those
        failed = sum(usages["failures"].cpu for usages in found[level])
        note = f"of {runs * samples} samples, retries off"
        rows.append(Row(figure=f"failures_{level}", value=failed, unit="", goal=Goal(must=0), note=note))
    few, many = 100, max(levels)
    if few in per_request and many > few:
        growth = per_request[many] / per_request[few]
        goal = Goal(must=1.8, of="ratio")
        versus = f"{few} at once"
        rows.append(
            Row(figure=f"growth_{few}_to_{many}", value=growth, unit="x", versus=versus, ratio=growth, goal=goal)
        )
    if 1000 in per_request:
        mine, theirs = per_request[1000] * _REQUESTS / 1000, statistics.median(sdk)
        rows.append(
            Row(
                figure="transport_cpu_per_sample_1000",
                value=mine,
                unit="ms",
                versus=SDK,
                ratio=mine / theirs,
                goal=Goal(must=0.3, of="ratio"),
                note=f"SDK {theirs:.3g} ({min(sdk):.3g} to {max(sdk):.3g})",
            )
        )
    return rows


async def measured(url: str, level: int) -> dict[str, Usage]:
    """Samples, ``level`` at a time, after a warm-up."""
    transport = HttpTransport()
    api = Api(transport, Config.load(base_url=url, api_key="tml-benchmark", environ={}))
    parameters = SamplingParams(max_tokens=SAMPLED_TOKENS)
    failures = 0

    async def one(number: int, prompt: ModelInput) -> None:
        nonlocal failures
        request = SampleRequest(
            prompt=prompt, sampling_params=parameters, sampling_session_id="session:sample:0", seq_id=number
        )
        try:
            promise = await asample(api, request, key=f"key-{number}")
            result = await retrieve_future(
                api, promise.request_id, SampleResponse, iteration=0, request_type="Sample", timeout=45.0
            )
        except APIError:
            failures += 1
            return
        assert isinstance(result, SampleResponse)
        assert len(result.sequences[0].tokens) == SAMPLED_TOKENS

    async def rounds(prompts: list[ModelInput]) -> None:
        for start in range(0, len(prompts), level):
            async with trio.open_nursery() as nursery:
                for number, prompt in enumerate(prompts[start : start + level], start):
                    nursery.start_soon(one, number, prompt)

    await rounds([ModelInput.from_ints(prompt) for prompt in workload.prompts(workload.WARM_UP_SAMPLES)])
    count = max(level, _AT_LEAST)
    prompts = [ModelInput.from_ints(prompt) for prompt in workload.prompts(count)]
    meter = Meter()
    await rounds(prompts)
    usage = meter.stop()
    await transport.aclose()
    return {"samples": usage, "failures": Usage(cpu=failures, wall=0.0, peak_rss_mib=0.0)}


if __name__ == "__main__":
    report(trio.run(measured, sys.argv[1], int(sys.argv[2])))
