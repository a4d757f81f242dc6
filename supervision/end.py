"""How one life ends: what it was asked, and what came of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, final

import trio

if TYPE_CHECKING:
    from supervision.incarnation import Incarnation
    from supervision.timers import Timer

__all__: list[str] = []

StopKind = Literal["normal", "shutdown", "cancelled"]


@final
class End:
    """Made when there is something to note."""

    __slots__ = (
        "errors",
        "fatal",
        "hard",
        "killed",
        "links",
        "restarting",
        "stop_timer",
        "stray",
        "stuck",
        "tasks_ended",
        "terminate_scope",
    )

    def __init__(self) -> None:
        self.restarting = False
        """Whether whoever stops it will start it again."""
        self.hard = math.inf
        """The deadline handed down from above."""
        self.stop_timer: Timer | None = None
        self.killed = ""
        """What was cut off when the grace was over."""
        self.links: dict[Incarnation, None] | None = None
        """Who ends with it."""
        self.stuck = False
        """It has been reported so."""
        self.errors: list[BaseException] | None = None
        self.fatal = False
        self.stray: BaseException | None = None
        self.terminate_scope: trio.CancelScope | None = None
        self.tasks_ended: trio.Event | None = None
