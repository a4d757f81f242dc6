"""What does it cost to make bytes of values, and values of bytes? Next to the official SDK 0.38.0, in one process.

The batch is 128 datums of 4096 tokens with targets and weights, 8.4 MB in protobuf, and its result the logprobs of
all of them. "Arrays": the datums exist and were made of the program's own numpy arrays, which it may write to
again, so that ours copies them as the SDK does (the SDK keeps input tokens as a list whatever it was given).
"Lists": the datums are made of plain lists, and then encoded. Both sides take turns, and the best of their rounds
counts. The memory is that of a whole step against a canned server, in a fresh process for each run: the highest
resident size during the step less that before it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tinker
import trio
from tinker.proto.request_conv import forward_backward_request_to_proto
from tinker.proto.response_conv import deserialize_forward_backward_output
from tinker.types.forward_backward_input import ForwardBackwardInput
from tinker.types.forward_backward_request import ForwardBackwardRequest as TheirRequest

import tinker_actors as ta
from benchmarks import workload
from benchmarks.canned import canned_server, forward_backward_result
from benchmarks.counters import Operations
from benchmarks.measured import measure
from benchmarks.rounds import Rates, timed_rounds
from benchmarks.rows import Goal, Row
from tinker_actors.codec.forward_backward import encode_forward_backward_request
from tinker_actors.codec.forward_backward_output import decode_forward_backward_output
from tinker_actors.types import ForwardBackwardRequest

__all__ = ["run"]

SDK = "official SDK 0.38.0"
ROUNDS = 15
RUNS = 3
_LOSS = "cross_entropy"
_GOALS = {
    "encode_arrays_128x4096": Goal(must=0.1, of="ratio"),
    "encode_lists_128x4096": Goal(must=round(1 / 2.2, 3), of="ratio"),
    "decode_result_128x4096": Goal(must=0.2),
}


def run(rounds: int = ROUNDS, runs: int = RUNS, datums: int = workload.DATUMS) -> list[Row]:
    """The rows; ``rounds`` of each contestant by turns, and ``runs`` processes of each client for the memory."""
    contestants = _contestants(datums)
    rates = trio.run(_timed, contestants, rounds)
    rows = [_time_row(figure, rates) for figure in _GOALS]
    if runs and Path("/proc/self/clear_refs").exists():
        rows.append(trio.run(_memory_row, runs))
    return rows


def _contestants(datums: int) -> Mapping[str, Callable[[], object]]:
    lists = workload.sequences()[:datums]
    arrays = [
        (np.array(tokens, np.int32), np.array(targets, np.int64), np.array(weights, np.float32))
        for tokens, targets, weights in lists
    ]
    ours = [
        ta.Datum(ta.ModelInput.from_ints(tokens), {"target_tokens": targets, "weights": weights})
        for tokens, targets, weights in arrays
    ]
    theirs = [
        tinker.Datum(
            model_input=tinker.ModelInput.from_ints(tokens),
            loss_fn_inputs={
                "target_tokens": tinker.TensorData.from_numpy(targets),
                "weights": tinker.TensorData.from_numpy(weights),
            },
        )
        for (tokens, _, _), (_, targets, weights) in zip(lists, arrays, strict=True)
    ]
    result = forward_backward_result(datums, workload.TOKENS)
    assert b"".join(_ours(ours)) == b"".join(_ours(_our_datums(lists)))
    assert len(_theirs(theirs)) == sum(map(len, _ours(ours)))
    return {
        "encode_arrays_128x4096": lambda: _ours(ours),
        "encode_arrays_128x4096 sdk": lambda: _theirs(theirs),
        "encode_lists_128x4096": lambda: _ours(_our_datums(lists)),
        "encode_lists_128x4096 sdk": lambda: _theirs(_their_datums(lists)),
        "decode_result_128x4096": lambda: decode_forward_backward_output(result),
        "decode_result_128x4096 sdk": lambda: deserialize_forward_backward_output(result),
    }


def _our_datums(lists: list[tuple[list[int], list[int], list[float]]]) -> list[ta.Datum]:
    return [
        ta.Datum(ta.ModelInput.from_ints(tokens), {"target_tokens": targets, "weights": weights})
        for tokens, targets, weights in lists
    ]


def _their_datums(lists: list[tuple[list[int], list[int], list[float]]]) -> list[tinker.Datum]:
    return [
        tinker.Datum(
            model_input=tinker.ModelInput.from_ints(tokens),
            loss_fn_inputs={
                "target_tokens": tinker.TensorData(data=targets, dtype="int64", shape=[len(targets)]),
                "weights": tinker.TensorData(data=weights, dtype="float32", shape=[len(weights)]),
            },
        )
        for tokens, targets, weights in lists
    ]


def _ours(data: list[ta.Datum]) -> tuple[bytes | memoryview, ...]:
    return encode_forward_backward_request(
        ForwardBackwardRequest(
            model_id="m", seq_id=1, data=tuple(data), loss_fn=_LOSS, loss_fn_config={}, forward_only=False
        )
    )


def _theirs(data: list[tinker.Datum]) -> bytes:
    given = ForwardBackwardInput(data=data, loss_fn=_LOSS)
    request = TheirRequest(forward_backward_input=given, model_id="m", seq_id=1)
    return forward_backward_request_to_proto(request).SerializeToString()


async def _timed(contestants: Mapping[str, Callable[[], object]], rounds: int) -> Rates:
    def repeated(once: Callable[[], object]) -> Operations:
        async def operations(times: int) -> None:
            for _ in range(times):
                once()

        return operations

    times = {"decode_result_128x4096": 40, "decode_result_128x4096 sdk": 20}
    return await timed_rounds(
        {name: (repeated(once), times.get(name, 2)) for name, once in contestants.items()}, rounds=rounds
    )


def _time_row(figure: str, rates: Rates) -> Row:
    mine, theirs = (1000 / rates.best(name) for name in (figure, f"{figure} sdk"))
    note = f"{theirs / mine:.1f}x as fast as the SDK's {theirs:.3g} ms; {rates.spread(figure, f'{figure} sdk')}"
    return Row(figure=figure, value=mine, unit="ms", versus=SDK, ratio=mine / theirs, goal=_GOALS[figure], note=note)


async def _memory_row(runs: int) -> Row:
    rises: dict[str, list[float]] = {"ours": [], "sdk": []}
    async with canned_server(tokens=workload.TOKENS) as server:
        for _ in range(runs):
            for client, found in rises.items():
                usages = await trio.to_thread.run_sync(measure, f"benchmarks.client_{client}", "memory", server.url)
                found.append(usages["step"].peak_rss_mib - usages["before"].peak_rss_mib)
    mine, theirs = (statistics.median(rises[client]) * 1.048576 for client in ("ours", "sdk"))
    return Row(
        figure="step_memory_128x4096",
        value=mine,
        unit="MB",
        versus=SDK,
        ratio=mine / theirs,
        goal=Goal(must=16),
        note=f"median of {runs}; SDK {theirs:.3g} MB",
    )
