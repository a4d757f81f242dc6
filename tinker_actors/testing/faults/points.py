"""Crashes at named points of the code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import trio

from tinker_actors.ports import Points
from tinker_actors.testing.faults.client import CrashAt
from tinker_actors.testing.faults.plan import FaultPlan, Fired

__all__ = ["InjectedCrash", "PlannedPoints"]


class InjectedCrash(Exception):
    """Raised by a fault plan in the code of an actor; a bug like any other to what it hits."""


@final
class PlannedPoints(Points):
    """Raises InjectedCrash where ``plan`` says so."""

    def __init__(self, plan: FaultPlan) -> None:
        self._crashes = [fault for fault in plan.faults if isinstance(fault, CrashAt)]
        self._reached: dict[str, int] = {}
        self._fired: list[Fired] = []

    @property
    def fired(self) -> tuple[Fired, ...]:
        """What has happened so far, in order."""
        return tuple(self._fired)

    @property
    def reached(self) -> Mapping[str, int]:
        """How often each point was reached so far."""
        return dict(self._reached)

    def reach(self, point: str, subject: str) -> None:
        """Count, and crash if it is time."""
        attempt = self._reached[point] = self._reached.get(point, 0) + 1
        for fault in self._crashes:
            if fault.point == point and fault.nth == attempt:
                self._fired.append(Fired(fault=fault, subject=subject, at=trio.current_time(), attempt=attempt))
                raise InjectedCrash(f"injected at {point} number {attempt}, {subject}")
