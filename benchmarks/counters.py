"""Counters of one operation: trio's task steps, and function calls. Unlike times, every machine gives the same."""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final, TypeAlias, final

import msgspec
import trio

__all__ = ["Counters", "Operations", "count", "many_objects"]

Operations: TypeAlias = Callable[[int], Awaitable[None]]
"""Called with a number, it runs the operation that often."""

_WARM_UP: Final = 20


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """Per operation, over all tasks of the run: ``steps`` of tasks, ``calls`` of Python and C functions."""

    steps: float
    calls: float


@final
class _Steps(trio.abc.Instrument):
    def __init__(self) -> None:
        self.count = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def count(operations: Operations, times: int) -> Counters:
    """Run ``operations`` twice for ``times``, once for each counter: an instrument would itself be counted as calls.

    trio's own work between the steps counts as calls, too; garbage collection is off meanwhile.
    """
    await operations(_WARM_UP)
    gc.collect()
    gc.disable()
    try:
        steps = _Steps()
        trio.lowlevel.add_instrument(steps)
        try:
            await operations(times)
        finally:
            trio.lowlevel.remove_instrument(steps)
        calls = await _calls(operations, times)
    finally:
        gc.enable()
    return Counters(steps=steps.count / times, calls=calls / times)


async def _calls(operations: Operations, times: int) -> int:
    calls = 0

    def seen(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        if event in {"call", "c_call"}:
            calls += 1

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        await operations(times)
    finally:
        sys.setprofile(before)
    return calls


@contextmanager
def many_objects() -> Generator[None]:
    """For a program that keeps many objects: the garbage collector looks at the young once in 50,000 allocations.

    At Python's own threshold of 700 it is half the cost of starting so many, and such a program will set it, too.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
