"""How long until it can be used? Import, and from the start of a process to its first sampled token.

The import is timed inside fresh processes with a warm file cache. ``import tinker_actors`` loads little; what a
program needs comes with ``open_runtime``, so that is timed too. The first token comes from the local server in
another process, asked before by a client that is not counted. All is wall time, so a busy machine shows.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.rows import Goal, Row
from benchmarks.server_process import BASE_MODEL, KEY, server_process

__all__ = ["run"]

SDK = "official SDK 0.38.0"
_RUNS = 7

_IMPORT = "import time; begun = time.perf_counter(); {}; print(time.perf_counter() - begun)"


def run(runs: int = _RUNS) -> list[Row]:
    """The rows; medians of ``runs`` processes each, both clients interleaved."""
    statements = {
        "import": "import tinker_actors",
        "runtime": "from tinker_actors import open_runtime",
        "sdk": "import tinker",
    }
    times: dict[str, list[float]] = {name: [] for name in statements}
    for _ in range(runs + 1):
        for name, statement in statements.items():
            times[name].append(1000 * float(_output("-c", _IMPORT.format(statement))))
    rows = [
        _row("import_tinker_actors", times["import"][1:], times["sdk"][1:], Goal(must=260)),
        _row("import_open_runtime", times["runtime"][1:], times["sdk"][1:], Goal(must=0.5, of="ratio")),
    ]
    with server_process() as url:
        first: dict[str, list[float]] = {"ours": [], "sdk": []}
        for _ in range(runs + 1):
            for name, found in first.items():
                begun = time.monotonic()
                found.append(
                    1000 * (float(_output("-m", "benchmarks.first_sample", name, url, BASE_MODEL, KEY)) - begun)
                )
    rows.append(_row("start_to_first_token", first["ours"][1:], first["sdk"][1:], Goal(must=0.5, of="ratio")))
    return rows


def _output(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True, timeout=120)
    return done.stdout.splitlines()[-1]


def _row(figure: str, mine: list[float], theirs: list[float], goal: Goal | None = None) -> Row:
    value, other = statistics.median(mine), statistics.median(theirs)
    note = f"median of {len(mine)}: {min(mine):.0f} to {max(mine):.0f}; SDK {other:.0f}"
    return Row(figure=figure, value=value, unit="ms", versus=SDK, ratio=value / other, goal=goal, note=note)
