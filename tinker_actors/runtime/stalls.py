"""Stalls: who holds the event loop, or the interpreter itself, for so long that heartbeats and polls come late.

A thread of its own watches, since what is held can't watch itself. Here a real clock is read, and real threads are
looked at: under a virtual clock nothing is watched.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import final

import trio

from supervision import Actor, StopReason
from tinker_actors.checks import number
from tinker_actors.errors import InvalidInput

__all__ = ["StallWatch", "Stalls", "check_alarm"]

_log = logging.getLogger("tinker_actors.stalls")

_LONGEST_PERIOD = 0.5
_SHORTEST_ALARM = 0.05
_QUIET, _LONGEST_QUIET = 10.0, 600.0  # seconds after a report; longer each time while stalls go on
_DEEPEST = 12  # frames of a stack that are shown, the innermost ones
_CURE = "Run what takes so long in a thread (trio.to_thread.run_sync) or, if it holds the interpreter, in a process"


def check_alarm(stall_alarm: float | None) -> float | None:
    """``stall_alarm`` as seconds. Raises InvalidInput for what is no such time."""
    if stall_alarm is None:
        return None
    cure = f"Give seconds, {_SHORTEST_ALARM:g} or more, or None to watch nothing"
    seconds = number("stall_alarm", stall_alarm, cure)
    if not _SHORTEST_ALARM <= seconds < float("inf"):
        raise InvalidInput("stall_alarm", f"{seconds} is no time to wait", cure)
    return seconds


@final
class StallWatch:
    """Watches the loop of ``token``, which runs in the thread ``loop_thread``, from whatever thread calls ``run``.

    Twice a second, or more often for a short ``alarm``, it asks the loop for a sign. None within ``alarm`` seconds:
    the stack of the loop's thread is logged while it still holds the loop. When the watch itself comes so late, no
    thread of Python's has run: the stacks of all others are logged, the holder's among them. ``lag`` is called on the
    loop with the seconds that each sign took.
    """

    def __init__(
        self,
        alarm: float,
        token: trio.lowlevel.TrioToken,
        loop_thread: int,
        lag: Callable[[float], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._alarm = alarm
        self._token = token
        self._loop_thread = loop_thread
        self._lag = lag
        self._clock = clock
        self._over = threading.Event()
        self._answered = threading.Event()
        self._quiet = 0.0
        self._quiet_until = -math.inf
        self._unsaid = 0

    def end(self) -> None:
        """Let ``run`` return."""
        self._over.set()

    def run(self) -> None:
        """Watch until ``end``, or until the loop has ended."""
        period = min(self._alarm / 2, _LONGEST_PERIOD)
        asked: float | None = None
        told = said = False
        last = self._clock()
        while not self._over.wait(period):
            now = self._clock()
            late, last = now - last - period, now
            if late >= self._alarm:
                if self._may_tell(now):
                    self._tell_of_the_interpreter(late)
                asked = None if asked is None else now  # the loop could not run, either
            if asked is not None and self._answered.is_set():
                if told and said:
                    _log.warning("the event loop runs again after %.1f s", now - asked)
                asked, told = None, False
            if asked is None:
                self._answered.clear()
                asked = now
                try:
                    self._token.run_sync_soon(self._answer, now)
                except trio.RunFinishedError:
                    return
            elif not told and now - asked >= self._alarm:
                told = True
                said = self._may_tell(now)
                if not said:
                    continue
                held_at = _frames().get(self._loop_thread)
                text = "the event loop has been held for %.1f s: no heartbeat is sent meanwhile. %s. It is at:\n%s"
                _log.warning(text, now - asked, _CURE, _stack(held_at))

    def _may_tell(self, now: float) -> bool:
        if now < self._quiet_until:
            self._unsaid += 1
            return False
        if self._unsaid:
            _log.warning("there were %d more stalls since the last report", self._unsaid)
        going_on = now < self._quiet_until + self._quiet
        self._quiet = min(2 * self._quiet, _LONGEST_QUIET) if going_on and self._quiet else _QUIET
        self._quiet_until = now + self._quiet
        self._unsaid = 0
        return True

    def _answer(self, asked: float) -> None:  # on the loop
        self._answered.set()
        self._lag(self._clock() - asked)

    def _tell_of_the_interpreter(self, late: float) -> None:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        watchers = {name for name in names.values() if "/stalls#" in name}  # other runtimes' as well
        others = {ident: frame for ident, frame in _frames().items() if names.get(ident) not in watchers}
        stacks = "\n".join(f"thread {names.get(ident, ident)}:\n{_stack(frame)}" for ident, frame in others.items())
        held = "one of these held the interpreter (the GIL), or the machine slept"
        _log.warning("no thread of Python's ran for %.1f s: %s. %s.\n%s", late, held, _CURE, stacks)


@final
class Stalls(Actor):
    """Keeps a StallWatch at work for as long as its runtime is open."""

    def __init__(self, alarm: float, lag: Callable[[float], object]) -> None:
        self._alarm = alarm
        self._lag = lag
        self._watch: StallWatch | None = None

    async def init(self) -> None:
        """Start watching, unless time is virtual here."""
        testing = sys.modules.get("trio.testing")
        if testing is not None and isinstance(trio.lowlevel.current_clock(), testing.MockClock):
            return
        self._watch = StallWatch(self._alarm, trio.lowlevel.current_trio_token(), threading.get_ident(), self._lag)
        self.context.start_task(self._run, self._watch, name="watch")

    async def _run(self, watch: StallWatch) -> None:
        await self.context.run_in_thread(watch.run, abandon=True)

    async def terminate(self, reason: StopReason) -> None:
        """Let the thread go."""
        if self._watch is not None:
            self._watch.end()


def _frames() -> dict[int, FrameType]:
    return sys._current_frames()  # noqa: SLF001  # documented for this very use, whatever its name says


def _stack(frame: FrameType | None) -> str:
    return "  (it has ended)" if frame is None else "".join(traceback.format_stack(frame)[-_DEEPEST:]).rstrip()
