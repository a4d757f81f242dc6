"""The state of a runtime as text, and SIGUSR1, which writes it."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from typing import final

import trio

from supervision import Actor, StopReason, TreeSnapshot
from tinker_actors.flow.pending import Pending

__all__ = ["DumpOnSignal", "render"]


def render(tree: TreeSnapshot, pending: Sequence[Pending]) -> str:
    """The supervision tree, then what waits and why, one line each."""
    waits = "\n".join(f"  {row}" for row in pending) if pending else "  nothing"
    return f"{tree}\n\nWaiting ({len(pending)}):\n{waits}\n"


@final
class DumpOnSignal(Actor):
    """Calls ``dump`` at each SIGUSR1, whose default would be the end of the process.

    Does nothing where the program has a handler of its own for it, outside of the main thread (where Python takes no
    handlers), and on systems without that signal.
    """

    def __init__(self, dump: Callable[[], object]) -> None:
        self._dump = dump
        self._stack = ExitStack()

    async def init(self) -> None:
        """Take the signal, if it is free."""
        number = getattr(signal, "SIGUSR1", None)
        main = threading.current_thread() is threading.main_thread()
        if number is None or not main or signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN):
            return
        # here and not in the task: a signal between the two would end the process
        received = self._stack.enter_context(trio.open_signal_receiver(number))
        self.context.start_task(self._listen, received, name="listen")

    async def _listen(self, received: AsyncIterator[int]) -> None:
        async for _ in received:
            self._dump()

    async def terminate(self, reason: StopReason) -> None:
        """Give the signal back."""
        self._stack.close()
