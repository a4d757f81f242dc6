"""FaultPlan: the faults of one run, and the record of those that happened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias, cast, final, get_args

import msgspec
import trio

from tinker_actors.errors import InvalidInput
from tinker_actors.server_class import ServerClass
from tinker_actors.testing.faults.client import BlockLoop, CancelCaller, CrashActor, CrashAt, KillRuntime
from tinker_actors.testing.faults.disk import FullDisk, LostSync, TornWrite
from tinker_actors.testing.faults.kinds import AtRequest, Ending, FaultKind
from tinker_actors.testing.faults.network import (
    Delay,
    DropAfter,
    DropBefore,
    Duplicate,
    NetworkFault,
    Partition,
    RefuseSeqId,
    Reorder,
    Reset,
    Status,
    Truncate,
)
from tinker_actors.testing.faults.server import (
    CorruptModels,
    ExpireSessions,
    JumpClock,
    LosePromises,
    PauseQueue,
    RestartServer,
)

__all__ = ["FAULT_KINDS", "Fault", "FaultPlan", "Fired", "Schedule", "names_of"]

Fault: TypeAlias = (
    DropBefore
    | DropAfter
    | Reset
    | Delay
    | Reorder
    | Duplicate
    | Partition
    | Status
    | RefuseSeqId
    | Truncate
    | LosePromises
    | PauseQueue
    | ExpireSessions
    | CorruptModels
    | RestartServer
    | JumpClock
    | CrashAt
    | CrashActor
    | CancelCaller
    | BlockLoop
    | KillRuntime
    | FullDisk
    | TornWrite
    | LostSync
)

FAULT_KINDS: tuple[type[FaultKind], ...] = get_args(Fault)
"""Every kind, in the order of the documentation."""

_WORST = tuple(Ending)


def names_of(kinds: Iterable[type[FaultKind]]) -> str:
    """For people: "DropBefore, DropAfter, ..."."""
    return ", ".join(kind.__name__ for kind in kinds)


class FaultPlan(msgspec.Struct, frozen=True):
    """What goes wrong in one run. ``repr`` is the Python that makes an equal plan.

    Raises InvalidInput for what is no fault.
    """

    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        given = cast("object", self.faults)
        if not isinstance(given, tuple):
            problem = f"are of type {type(given).__name__}"
            raise InvalidInput("faults", problem, "Give a tuple, as in FaultPlan((DropAfter(path='/optim_step'),))")
        for index, fault in enumerate(cast("tuple[object, ...]", given)):
            if not isinstance(fault, FAULT_KINDS):
                problem = f"is of type {type(fault).__name__}"
                raise InvalidInput(f"faults[{index}]", problem, f"Give one of {names_of(FAULT_KINDS)}")

    @property
    def ending(self) -> Ending:
        """How a run that meets all of them must end: as its worst fault."""
        return max((fault.ending for fault in self.faults), key=_WORST.index, default=Ending.EQUAL)

    def ending_at(self, server_class: ServerClass, *, asks: bool) -> Ending:
        """The same at a server of that class, with a policy that ``asks`` or not: see the kinds."""
        endings = [fault.ending_at(server_class, asks=asks) for fault in self.faults]
        return max(endings, key=_WORST.index, default=Ending.EQUAL)


class Fired(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that did happen: to what (a request's method and path, a point's subject, an actor) and when."""

    fault: Fault
    subject: str
    at: float
    attempt: int


@final
class Schedule:
    """Which of the faults of ``plan`` each request meets, and what has happened so far."""

    def __init__(self, plan: FaultPlan) -> None:
        self._faults = [fault for fault in plan.faults if isinstance(fault, AtRequest)]
        self._seen = [0] * len(self._faults)
        self.fired: list[Fired] = []

    def due(self, path: str, name: str) -> AtRequest | None:
        """Count an attempt at ``path``, called ``name`` in the log; the fault that it meets."""
        due: AtRequest | None = None
        for index, fault in enumerate(self._faults):
            if not path.endswith(fault.path):
                continue
            self._seen[index] += 1
            attempt = self._seen[index]
            times = fault.times if isinstance(fault, NetworkFault) else 1
            if due is None and fault.nth <= attempt < fault.nth + times:
                due = fault
                self.fired.append(
                    Fired(fault=cast("Fault", fault), subject=name, at=trio.current_time(), attempt=attempt)
                )
        return due
