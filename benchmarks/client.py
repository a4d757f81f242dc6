"""What does the client itself cost? CPU for a sample and for a training step, next to the official SDK 0.38.0.

Both clients face one canned server process; each run is a process of its own, the runs of both are interleaved,
and the CPU is that of the client process alone (getrusage, all threads), after a warm-up. A training step is
forward_backward of 128 datums of 4096 tokens (input, targets, weights) and optim_step, submitted one behind the
other and then awaited; the datums exist beforehand, and making them is a figure of its own. Counters of our client
alone (``client_counters``) follow: they are what the tests gate.
"""

from __future__ import annotations

import statistics

import msgspec
import trio

from benchmarks import workload
from benchmarks.canned import canned_server
from benchmarks.client_counters import counter_rows
from benchmarks.measured import Usage, measure
from benchmarks.rows import Goal, Row

__all__ = ["run"]

SDK = "official SDK 0.38.0"
RUNS = 5


def run(runs: int = RUNS) -> list[Row]:
    """The rows; ``runs`` of each client and kind, interleaved, and behind them the counters of our own."""
    return [*trio.run(_run, runs), *counter_rows()]


async def _run(runs: int) -> list[Row]:
    found: dict[tuple[str, str], list[Usage]] = {}
    async with canned_server(tokens=workload.TOKENS) as server:
        for _ in range(runs):
            for kind in ("sample", "train"):
                for client in ("sdk", "ours"):
                    usages = await trio.to_thread.run_sync(measure, f"benchmarks.client_{client}", kind, server.url)
                    for name, usage in usages.items():
                        found.setdefault((client, name), []).append(usage)
    rows: list[Row] = []
    for figure, name, count, goal in (
        ("cpu_per_sample_1000", "sample", workload.SAMPLES, Goal(must=0.35, aim=0.15, of="ratio")),
        ("train_step_cpu_128x4096", "train", workload.STEPS, Goal(must=0.6, aim=0.2, of="ratio")),
        ("build_datums_cpu_128x4096", "build", 1, None),
    ):
        row = _cpu_row(figure, found["ours", name], found["sdk", name], count)
        rows.append(msgspec.structs.replace(row, goal=goal))
    rows.append(_rss_row("peak_rss_sampling_1000", found["ours", "sample"], found["sdk", "sample"]))
    return rows


def _cpu_row(figure: str, ours: list[Usage], sdk: list[Usage], count: int) -> Row:
    mine, theirs = ([1000 * usage.cpu / count for usage in usages] for usages in (ours, sdk))
    return _row(figure, "ms", mine, theirs)


def _rss_row(figure: str, ours: list[Usage], sdk: list[Usage]) -> Row:
    return _row(figure, "MiB", [usage.peak_rss_mib for usage in ours], [usage.peak_rss_mib for usage in sdk])


def _row(figure: str, unit: str, mine: list[float], theirs: list[float]) -> Row:
    value, other = statistics.median(mine), statistics.median(theirs)
    note = (
        f"median of {len(mine)}: {min(mine):.3g} to {max(mine):.3g}; "
        f"SDK {other:.3g} ({min(theirs):.3g} to {max(theirs):.3g})"
    )
    return Row(figure=figure, value=value, unit=unit, versus=SDK, ratio=value / other, note=note)
