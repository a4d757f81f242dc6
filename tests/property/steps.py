"""Something done at one scheduler step of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import trio

__all__ = ["AtStep"]


@final
class AtStep(trio.abc.Instrument):
    """Calls ``act`` once, before the scheduler step number ``step`` after ``arm``, counting all steps."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.steps = 0
        self.acted = False
        self.act: Callable[[], None] | None = None

    def arm(self, act: Callable[[], None]) -> None:
        self.act = act

    def disarm(self) -> None:
        self.act = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.act is None:
            return
        self.steps += 1
        if self.steps == self.step:
            self.acted = True
            self.act()
