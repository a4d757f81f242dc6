"""The benchmarks that start processes, once each and as short as can be."""

from __future__ import annotations

import subprocess
import sys

import pytest
import trio

from benchmarks import overhead, startup
from benchmarks.canned import canned_server
from benchmarks.measured import measure

pytestmark = pytest.mark.process


@pytest.mark.ci
def test_overhead() -> None:
    rows = {row.figure: row for row in overhead.run(runs=1, steps=2)}
    cpu, wall, share = (
        rows[name].value for name in ("runtime_cpu_per_step", "wall_per_step", "runtime_share_of_step")
    )
    assert 0 < cpu < wall
    assert share == pytest.approx(100 * cpu / wall)
    assert rows["wall_per_step"].versus == rows["runtime_cpu_per_step"].versus == "the engine alone"
    assert rows["runtime_cpu_per_step"].ratio is not None


@pytest.mark.ci
def test_startup() -> None:
    rows = {row.figure: row for row in startup.run(runs=1)}
    assert set(rows) == {"import_tinker_actors", "import_open_runtime", "start_to_first_token"}
    assert all(row.versus is not None and row.ratio is not None for row in rows.values())
    assert rows["import_tinker_actors"].value < rows["start_to_first_token"].value


@pytest.mark.ci
async def test_client_processes_report_what_they_used() -> None:
    async with canned_server(tokens=8) as server:
        usages = await trio.to_thread.run_sync(measure, "benchmarks.client_ours", "sample", server.url)
    assert set(usages) == {"sample"}
    assert 0 < usages["sample"].cpu < 60
    assert usages["sample"].peak_rss_mib > 10


@pytest.mark.ci
async def test_the_transport_is_measured_as_often_as_it_says() -> None:
    async with canned_server(tokens=8) as server:
        usages = await trio.to_thread.run_sync(measure, "benchmarks.transport", server.url, "100")
    assert usages["failures"].cpu == 0
    assert 0 < usages["samples"].cpu < 60
    # a server that is not there makes every sample a failure
    usages = await trio.to_thread.run_sync(measure, "benchmarks.transport", "http://127.0.0.1:9", "100")
    assert usages["failures"].cpu == 1000 + 20


@pytest.mark.ci
async def test_the_memory_of_a_step_is_that_of_the_step() -> None:
    async with canned_server(tokens=4096) as server:
        usages = await trio.to_thread.run_sync(measure, "benchmarks.client_ours", "memory", server.url)
    assert set(usages) == {"before", "step"}
    assert 20 < usages["before"].peak_rss_mib <= usages["step"].peak_rss_mib < 1000


HIGHEST = """
from benchmarks.measured import memory_now, memory_peak, reset_memory_peak

held = bytearray(64 << 20)
before = memory_now().peak_rss_mib
del held
reset_memory_peak()
print(before - memory_peak().peak_rss_mib)
held = bytearray(64 << 20)
del held
print(memory_peak().peak_rss_mib - before)
"""


def test_the_highest_size_is_counted_anew() -> None:
    """In a process of its own: what earlier tests leave would count, too."""
    done = subprocess.run([sys.executable, "-c", HIGHEST], check=True, capture_output=True, text=True)
    fallen, risen = map(float, done.stdout.split())
    assert fallen > 32
    assert risen > -8
