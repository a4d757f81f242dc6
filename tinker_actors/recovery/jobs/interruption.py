"""Ctrl-C in a job: the first asks for an orderly end, the second leaves at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, final

__all__ = ["Interruption"]


@final
class Interruption:
    """Catches SIGINT and SIGTERM for as long as the block, in the main thread; elsewhere it does nothing.

    The first one calls ``asked`` with its name, and may do so between any two instructions. The next ends the process
    as it would without this.
    """

    def __init__(self, asked: Callable[[str], None]) -> None:
        self._asked = asked
        self._before: dict[signal.Signals, Any] = {}
        self._caught = False

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._catch)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self._caught:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._caught = True
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        # not print(): it may have been interrupted itself
        os.write(
            sys.__stderr__.fileno() if sys.__stderr__ else 2,
            b"\n%s: the job stops after this step, with a checkpoint. Once more leaves now\n" % name.encode(),
        )
        self._asked(name)
