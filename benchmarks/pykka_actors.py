"""The same jobs with pykka, the actor library that Python has: an actor is a thread, an ask blocks the caller's."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import final

import pykka

from benchmarks.counters import Operations

__all__ = ["running"]


@final
class _Counter(pykka.ThreadingActor):
    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def on_receive(self, message: object) -> int:
        if isinstance(message, int):
            self.n += message
        return self.n


@contextmanager
def running() -> Generator[tuple[Operations, Operations]]:
    """(asks one after another, tells with an ask at the end that says that all were handled)."""
    ref = _Counter.start()

    async def asks(times: int) -> None:
        for _ in range(times):
            ref.ask(None, timeout=5.0)

    async def tells(times: int) -> None:
        for _ in range(times):
            ref.tell(1)
        ref.ask(None)

    try:
        yield asks, tells
    finally:
        ref.stop()
