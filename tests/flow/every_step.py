"""Cancelling one of several tasks at each scheduler step of a program, one step a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import final

import trio

from supervision.testing import run_seeded


@final
class _CancelAt(trio.abc.Instrument):
    def __init__(self, step: int, scope: trio.CancelScope) -> None:
        self.left = step
        self.scope = scope

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.left == 0:
            self.scope.cancel()
        self.left -= 1


def cancelled_at_every_step(program: Callable[[trio.CancelScope], Awaitable[None]], seeds: int = 3) -> int:
    """Run ``program`` once for each of its steps, with the scope it was given cancelled there; the number of runs."""
    runs = 0
    for seed in range(seeds):
        step = 0
        while True:
            scope = trio.CancelScope()
            canceller = _CancelAt(step, scope)
            run_seeded(program, scope, seed=seed, limit=1e4, instruments=[canceller])
            runs += 1
            if canceller.left >= 0:
                break
            step += 1
    return runs
