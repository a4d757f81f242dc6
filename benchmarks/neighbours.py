"""Supervision next to its neighbours: pykka in this process, and Erlang's gen_server where it is installed."""

from __future__ import annotations

import gc
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks import actors, pykka_actors
from benchmarks.rounds import timed_rounds
from benchmarks.rows import Goal, Row

__all__ = ["erlang_rows", "pykka_rows"]

_PYKKA: Final = "pykka, a thread an actor"
_ERLANG: Final = "Erlang's gen_server"
_SCRIPT: Final = Path(__file__).with_name("gen_server.escript")


async def pykka_rows(rounds: int, calls: int) -> list[Row]:
    """Calls and casts as a multiple of pykka's asks and tells. In wall time: its work is done by two threads."""
    async with actors.open_measured() as system:
        ref = await system.start_child(actors.plain("actor"))
        with pykka_actors.running() as (asks, tells):
            rates = await timed_rounds(
                {
                    "call": (actors.calls(ref, 5.0), calls),
                    "ask": (asks, calls),
                    "cast": (actors.casts(ref), 10 * calls),
                    "tell": (tells, 10 * calls),
                },
                rounds=rounds,
                clock=time.perf_counter,
            )
    rows: list[Row] = []
    for figure, pair, goal in (
        ("call_vs_pykka_ask", ("call", "ask"), Goal(must=2, aim=5, at_most=False)),
        ("cast_vs_pykka_tell", ("cast", "tell"), None),
    ):
        value = rates.ratio(*pair)
        mine, theirs = map(rates.best, pair)
        note = f"{mine:,.0f} to {theirs:,.0f} a second of wall time; {rates.spread(*pair)}"
        rows.append(Row(figure=figure, value=value, unit="x", versus=_PYKKA, ratio=value, goal=goal, note=note))
    return rows


async def erlang_rows(rounds: int, calls: int) -> list[Row]:
    """Calls, casts and restarts next to Erlang's, in wall time; nothing where there is no escript."""
    if shutil.which("escript") is None:
        return []
    theirs = _erlang(max(10 * calls, 1000))
    async with actors.open_measured() as system:
        ref = await system.start_child(actors.plain("actor"))
        rates = await timed_rounds(
            {"call": (actors.calls(ref, 5.0), calls), "cast": (actors.casts(ref), 10 * calls)},
            rounds=rounds,
            clock=time.perf_counter,
        )
        restart = await _restart_us(actors.crashes(ref), max(calls // 8, 20))
    rows = [
        Row(
            figure=f"{name}_vs_erlang",
            value=rates.best(name) / theirs[f"{name}_per_s"],
            unit="x",
            versus=_ERLANG,
            ratio=rates.best(name) / theirs[f"{name}_per_s"],
            note=f"{rates.best(name):,.0f} to {theirs[f'{name}_per_s']:,.0f} a second of wall time",
        )
        for name in ("call", "cast")
    ]
    ratio = restart / theirs["restart_us"]
    note = f"medians, {restart:.4g} to {theirs['restart_us']:.4g} us, from the crash to the next incarnation's reply"
    goal = Goal(must=2, aim=1.2)
    row = Row(figure="restart_vs_erlang", value=ratio, unit="x", versus=_ERLANG, ratio=ratio, goal=goal, note=note)
    return [*rows, row]


async def _restart_us(operations: actors.Operations, times: int) -> float:
    await operations(10)
    gc.collect()
    taken: list[float] = []
    for _ in range(times):
        begun = time.perf_counter()
        await operations(1)
        taken.append(time.perf_counter() - begun)
    return sorted(taken)[times // 2] * 1e6


def _erlang(times: int) -> Mapping[str, float]:
    command = ["escript", str(_SCRIPT), str(times)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return {name: float(value) for name, value in (line.split() for line in done.stdout.splitlines())}
