"""Ctrl-C: the first asks for an orderly end, the second leaves at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import final

import trio

__all__ = ["Interruption"]


@final
class Interruption:
    """Watches for SIGINT and SIGTERM.

    The first one calls ``asked`` and cancels ``scope``; the next ends the process as it would without a watcher.
    """

    def __init__(self, scope: trio.CancelScope, asked: Callable[[], None]) -> None:
        self._scope = scope
        self._asked = asked
        self._signal: signal.Signals | None = None

    @property
    def exit_code(self) -> int | None:
        """128 and the signal's number, as shells have it; None when there was none."""
        return None if self._signal is None else 128 + self._signal

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch for ever; started when the signals are caught."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                if self._signal is not None:
                    signal.signal(number, signal.SIG_DFL)
                    os.kill(os.getpid(), number)
                self._signal = signal.Signals(number)
                self._asked()
                self._scope.cancel(reason=self._signal.name)
