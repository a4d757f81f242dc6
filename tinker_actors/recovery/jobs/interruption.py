"""Ctrl-C in a job: the first asks for an orderly end, the second leaves at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, final

__all__ = ["Interruption"]


@final
class Interruption:
    """Catches SIGINT and SIGTERM for as long as the block, in the main thread; elsewhere it does nothing.

    The first one calls ``asked`` with its name, and may do so between any two instructions. The next ends the process
    as it would without this. What the process ignores stays ignored, and a process that was forked within the block
    takes both as it would have without it.
    """

    def __init__(self, asked: Callable[[str], None]) -> None:
        self._asked = asked
        self._before: dict[signal.Signals, Any] = {}
        self._caught = False
        self._process = os.getpid()

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN and before is not None:  # None: not Python's, nor to be put back
                    self._before[number] = before
                    signal.signal(number, self._catch)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            signal.signal(number, self._before[signal.Signals(number)])
            os.kill(os.getpid(), number)
            return
        if self._caught:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._caught = True
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        self._asked(name)
        with suppress(OSError, ValueError):  # whoever reads it may have had the same Ctrl-C, and be gone
            # not print(): it may have been interrupted itself
            os.write(
                sys.__stderr__.fileno() if sys.__stderr__ else 2,
                b"\n%s: the job stops after this step, with a checkpoint. Once more leaves now\n" % name.encode(),
            )
