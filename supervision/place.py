"""A place: what survives restarts. It owns spec, names and history; incarnations borrow it.

A place is open from its start until it is closed: stopped, ended for good, or degraded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from supervision.backoff import Backoff
from supervision.errors import ActorStopped, CrashReport, Degraded, NotRunning, StopReason
from supervision.events import ActorRestarting
from supervision.handshake import Handshake
from supervision.window import Window

if TYPE_CHECKING:
    from supervision.system import System
    from supervision.timers import Timer

__all__: list[str] = []

UP = frozenset({"starting", "running"})
"""The states of a supervisor that starts and restarts children."""


class Place:
    """What actors and supervisors have in common."""

    __slots__ = (
        "attempt",
        "closed",
        "down_event",
        "last_crash",
        "number",
        "opening",
        "path",
        "restart_timer",
        "since",
        "state",
        "system",
        "window",
    )

    def __init__(self, system: System, path: str) -> None:
        self.system = system
        self.path = path
        """Names from the system down, joined by '/'. A task's name is the same string."""
        self.state = "starting"
        """starting, running, stopping, waiting (for its restart), down (held by its supervisor), stopped, degraded"""
        self.since = system.now()
        self.number: int = 0
        """The latest incarnation's."""
        self.attempt = 0
        """Restarts in a row without a stable period."""
        self.opening = True
        """The first start has not finished."""
        self.closed: StopReason | None = None
        self.last_crash: CrashReport | None = None
        self.window: Window | None = None
        self.restart_timer: Timer | None = None
        self.down_event: trio.Event | None = None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def history(self) -> tuple[CrashReport, ...]:
        """The crashes within its window."""
        return () if self.window is None else self.window.history

    def enter(self, state: str) -> None:
        self.state = state
        self.since = self.system.now()

    def next_delay(self, backoff: Backoff, up_since: float | None) -> float:
        now = self.system.now()
        if up_since is not None and now - up_since >= backoff.reset_after:
            self.attempt = 0
        self.attempt += 1
        return backoff.delay(self.attempt, self.system.random)

    def cancel_restart(self) -> None:
        timer, self.restart_timer = self.restart_timer, None
        if timer is not None:
            timer.cancel()

    @property
    def may_begin(self) -> bool:
        """Whether its supervisor is up: no restart begins once that has begun to stop."""
        raise NotImplementedError

    def schedule_restart(self, delay: float) -> None:
        if not self.may_begin:
            self.enter("down")
            return
        self.enter("waiting")
        if self.system.events.active:
            self.system.events.emit(ActorRestarting(self.path, self.number + 1, delay))
        if delay <= 0:
            self.begin()
        else:
            self.restart_timer = self.system.timers.after(delay, self._restart_due)

    def _restart_due(self) -> None:
        self.restart_timer = None
        if self.state != "waiting":
            return
        if self.may_begin:
            self.begin()
        else:
            self.enter("down")

    def begin(self, handshake: Handshake | None = None) -> None:
        """Begin an incarnation."""
        raise NotImplementedError

    def signal_down(self) -> None:
        event, self.down_event = self.down_event, None
        if event is not None:
            event.set()

    def not_running(self) -> NotRunning:
        if self.state == "degraded":
            return Degraded(self.path, self.history)
        if self.closed is not None:
            return ActorStopped(self.path, self.state, str(self.closed))
        return ActorStopped(self.path, self.state)
