"""What is done to a supervision tree, one thing at a time, and what is seen of it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from supervision.events import (
    ActorCrashed,
    ActorDegraded,
    ActorEnded,
    ActorRestarted,
    ActorRestarting,
    ActorStarted,
    AutoShutdown,
    Event,
    PlaceClosed,
    SupervisorGaveUp,
)
from supervision.spec import AnySpec, AutoShutdownMode

__all__ = [
    "Advance",
    "Crash",
    "Delete",
    "FailNextInit",
    "Operation",
    "Quit",
    "Restart",
    "TreeScenario",
    "SETTLE",
    "Start",
    "Step",
    "Stop",
    "trace_of",
]

SETTLE = 0.001
"""Seconds that pass after each operation: each finds the tree at rest, and at a time of its own."""


class Operation(msgspec.Struct, frozen=True):
    """One thing done to a tree. Paths are whole: `system/supervisor/child`."""


class Crash(Operation, frozen=True):
    """The actor crashes. Skipped if it does not run."""

    path: str


class Quit(Operation, frozen=True):
    """The actor ends by its own will. Skipped if it does not run."""

    path: str


class FailNextInit(Operation, frozen=True):
    """The next init() at this path raises."""

    path: str


class Start(Operation, frozen=True):
    """start_child()."""

    supervisor: str
    spec: AnySpec


class Stop(Operation, frozen=True):
    """stop_child()."""

    supervisor: str
    name: str


class Restart(Operation, frozen=True):
    """restart_child()."""

    supervisor: str
    name: str


class Delete(Operation, frozen=True):
    """delete_child()."""

    supervisor: str
    name: str


class Advance(Operation, frozen=True):
    """Time passes."""

    seconds: float


class TreeScenario(msgspec.Struct, frozen=True, kw_only=True):
    """A system and what is done to it. Start operations make its tree; the other fields are open_system()'s."""

    operations: tuple[Operation, ...]
    name: str = "system"
    max_restarts: int = 3
    max_seconds: float = 5.0
    auto_shutdown: AutoShutdownMode = "never"


class Step(msgspec.Struct, frozen=True):
    """One thing that happened at a place."""

    kind: str
    """started, restarted, crashed, ended, restarting, closed, degraded, gave_up, auto_shutdown"""
    path: str
    incarnation: int = 0
    detail: str = ""
    """ended, closed: the kind of the reason; auto_shutdown: the child's path."""
    again: bool = False
    """ended: there will be a next incarnation."""


def trace_of(events: Iterable[Event]) -> list[Step]:
    """What a system's event stream says of supervision; other events are left out."""
    steps: list[Step] = []
    for event in events:
        match event:
            case ActorStarted(path, number):
                steps.append(Step("started", path, number))
            case ActorRestarted(path, number):
                steps.append(Step("restarted", path, number))
            case ActorCrashed(path, number):
                steps.append(Step("crashed", path, number))
            case ActorEnded(path, number, reason):
                steps.append(Step("ended", path, number, reason.kind, reason.restarting))
            case ActorRestarting(path, number):
                steps.append(Step("restarting", path, number))
            case PlaceClosed(path, reason):
                steps.append(Step("closed", path, 0, reason.kind))
            case ActorDegraded(path):
                steps.append(Step("degraded", path))
            case SupervisorGaveUp(path):
                steps.append(Step("gave_up", path))
            case AutoShutdown(path, child):
                steps.append(Step("auto_shutdown", path, 0, child))
            case _:
                pass
    return steps
