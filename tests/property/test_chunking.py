"""Chunks, under faults: whatever size the server asks for, and whatever is lost, the server gets each batch once, cut
in the same places each time, and the results are those of the batch as a whole.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tinker_actors.clients.training.combine import reduce_metrics
from tinker_actors.clients.training.data_processor import datum_size
from tinker_actors.codec.forward_backward import decode_forward_backward_request
from tinker_actors.config import Config
from tinker_actors.local import ServerSettings
from tinker_actors.ports import Request, Response, Transport
from tinker_actors.testing.faults import FaultPlan
from tinker_actors.testing.operations import BASE_MODEL, datum, fault_plans, start_client
from tinker_actors.testing.simulation import Outcome, World, simulate
from tinker_actors.types import ForwardBackwardOutput, ForwardBackwardRequest

PATIENT = Config.load(base_url="https://server", api_key="tml-test", environ={}, outage_bound=3600.0)
EXAMPLES = max(60, settings().max_examples)
BATCHES = st.lists(st.lists(st.integers(0, 999), min_size=1, max_size=9), min_size=1, max_size=3)


class Recording(Transport):
    """Keeps what arrives at the server of forward_backward."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.arrived: list[ForwardBackwardRequest] = []

    async def send(self, request: Request) -> Response:
        if request.url.endswith("/forward_backward"):
            self.arrived.append(decode_forward_backward_request(b"".join(request.body)))
        return await self._inner.send(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def run(
    batches: list[list[int]], plan: FaultPlan, seed: int, **limits: int
) -> Outcome[tuple[list[ForwardBackwardOutput], list[ForwardBackwardRequest]]]:
    """The results of ``batches``, pipelined, and what arrived at the server."""

    async def scenario(world: World) -> tuple[list[ForwardBackwardOutput], list[ForwardBackwardRequest]]:
        recording = Recording(world.transport._inner)
        world.transport._inner = recording
        client = world.watch(await start_client(await world.runtime.create_service_client()))
        futures = [await client.forward_backward([datum(seed) for seed in seeds]) for seeds in batches]
        return [await future for future in futures], recording.arrived

    return simulate(
        scenario,
        seed=seed,
        plan=plan,
        settings=ServerSettings(base_model=BASE_MODEL, **limits),
        config=PATIENT,
        limit=50_000.0,
    )


@settings(max_examples=EXAMPLES)
@given(BATCHES, st.integers(1, 4), st.sampled_from([1, 60, 150, 5_000_000]), fault_plans(), st.integers(0, 2**32 - 1))
def test_a_batch_is_cut_once_within_its_bounds_and_its_result_is_that_of_the_whole(
    batches: list[list[int]], most: int, size: int, plan: FaultPlan, seed: int
):
    limits = {"fwdbwd_max_chunk_len": most, "fwdbwd_max_chunk_bytes_count": size}
    outcome = run(batches, plan, seed, **limits)
    results, arrived = outcome.value
    numbered: defaultdict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for request in arrived:
        numbered[request.seq_id].append(tuple(request.data))
    assert all(data == first for first, *others in numbered.values() for data in others), "cut anew"
    chunks = [numbered[seq_id][0] for seq_id in sorted(numbered)]
    event(f"chunks: {min(len(chunks), 6)}, sent again: {min(len(arrived) - len(chunks), 3)}")
    whole = [datum(seed) for seeds in batches for seed in seeds]
    assert [one for chunk in chunks for one in chunk] == whole
    for chunk in chunks:
        assert 1 <= len(chunk) <= most
        assert len(chunk) == 1 or sum(map(datum_size, chunk)) <= size
    ends = set(itertools.accumulate(map(len, batches)))
    assert ends <= set(itertools.accumulate(map(len, chunks)))
    for (before, after), end in zip(itertools.pairwise(chunks), itertools.accumulate(map(len, chunks)), strict=False):
        full = len(before) == most or sum(map(datum_size, before)) + datum_size(after[0]) > size
        assert full or end in ends, "a chunk that had room"
    applied = [entry for entry in outcome.models[0].applied if entry.kind == "forward_backward"]
    assert [entry.seq_id for entry in applied] == sorted(numbered)

    calm = run(batches, FaultPlan(()), 0).value[0]
    for result, undivided in zip(results, calm, strict=True):
        assert result.metrics.keys() == undivided.metrics.keys()
        for name, value in undivided.metrics.items():
            assert result.metrics[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
        assert len(result.loss_fn_outputs) == len(undivided.loss_fn_outputs)
        for mine, theirs in zip(result.loss_fn_outputs, undivided.loss_fn_outputs, strict=True):
            np.testing.assert_allclose(
                mine["logprobs"].to_numpy(), theirs["logprobs"].to_numpy(), rtol=1e-4, atol=1e-5
            )


VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12)


@given(VALUES, st.lists(st.integers(1, 4), min_size=12, max_size=12))
def test_reduced_chunks_are_the_reduction_of_the_whole(values: list[float], lengths: list[int]):
    parts: list[list[float]] = []
    rest = values
    for length in lengths:
        if rest:
            parts.append(rest[:length])
            rest = rest[length:]
    chunks = [
        {
            "m:mean": math.fsum(part) / len(part),
            "m:sum": math.fsum(part),
            "m:min": min(part),
            "m:max": max(part),
        }
        for part in parts
    ]
    reduced, unreduced = reduce_metrics(chunks, [float(len(part)) for part in parts])
    assert unreduced == ()
    assert reduced["m:mean"] == pytest.approx(math.fsum(values) / len(values), rel=1e-9, abs=1e-6)
    assert reduced["m:sum"] == pytest.approx(math.fsum(values), rel=1e-9, abs=1e-6)
    assert (reduced["m:min"], reduced["m:max"]) == (min(values), max(values))
    # and twice reduced, as when a chunk is one of several itself
    if len(chunks) > 1:
        first, _ = reduce_metrics(chunks[:2], [float(len(part)) for part in parts[:2]])
        again, _ = reduce_metrics(
            [first, *chunks[2:]], [float(len(parts[0]) + len(parts[1])), *(float(len(part)) for part in parts[2:])]
        )
        assert {name: pytest.approx(value, rel=1e-9, abs=1e-6) for name, value in reduced.items()} == again
