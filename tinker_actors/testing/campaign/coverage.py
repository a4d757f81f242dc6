"""What the runs of a campaign have covered, and whether that is enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from tinker_actors.server_class import ServerClass
from tinker_actors.testing.campaign.case import Case
from tinker_actors.testing.campaign.run import Report
from tinker_actors.testing.faults import FAULT_KINDS, Fired, RestartServer, Status

__all__ = ["Coverage", "Covered", "covered_by"]

_EACH_KIND: Final = 20  # runs in which it must have fired, of 500
_RECOVERIES: Final = 0.6  # of the runs
_OF: Final = 500
_POLL: Final = "/retrieve_future"
_SORTS: Final = (
    *(f"poll {status}" for status in (400, 401, 402, 403, 404, 408, 409, 410, 422, 429, "5xx")),  # WIRE 3.3
    *(f"restart with {kept}" for kept in ("memory", "disk", "nothing")),
)
"""What counts as a kind of its own besides."""


class Covered(msgspec.Struct, frozen=True):
    """Of one run: the kinds of the faults that fired, and sorts of them, whether something was made good, how much
    was done.
    """

    kinds: tuple[str, ...]
    server_class: str
    faults: int
    recovered: bool
    operations: int
    seconds: float
    verdicts: int = 0


class Coverage(msgspec.Struct, frozen=True):
    """Of many runs. ``runs_of`` says in how many each kind of fault fired, and how many had a server of each class;
    ``seconds`` is virtual time.
    """

    runs: int
    runs_of: dict[str, int]
    recovered: int
    faults: int
    operations: int
    seconds: float
    asked: int = 0
    """In how many the user had to decide."""

    @staticmethod
    def of(runs: Iterable[Covered]) -> Coverage:
        """Add them up."""
        all_runs = tuple(runs)
        kinds = Counter(kind for run in all_runs for kind in run.kinds)
        classes = Counter(run.server_class for run in all_runs)
        return Coverage(
            runs=len(all_runs),
            runs_of={kind.__name__: kinds[kind.__name__] for kind in FAULT_KINDS}
            | {sort: kinds[sort] for sort in _SORTS}
            | {f"class {each}": classes[each] for each in ServerClass},
            recovered=sum(run.recovered for run in all_runs),
            faults=sum(run.faults for run in all_runs),
            operations=sum(run.operations for run in all_runs),
            seconds=sum(run.seconds for run in all_runs),
            asked=sum(run.verdicts > 0 for run in all_runs),
        )

    def gaps(self) -> tuple[str, ...]:
        """What is too little for a gate: a kind that fired in too few runs, too few runs with a recovery."""
        least = _EACH_KIND * self.runs / _OF
        found = [f"{kind}: {count} runs only" for kind, count in self.runs_of.items() if count < least]
        if self.asked < least:
            found.append(f"a verdict in {self.asked} runs only")
        if self.recovered < _RECOVERIES * self.runs:
            found.append(f"something was made good in {self.recovered} of {self.runs} runs only")
        return tuple(found)

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.runs_of.items())
        hours = self.seconds / 3600.0
        return (
            f"{self.runs} runs, {self.operations} operations, {self.faults} faults, {hours:.1f} simulated hours; "
            f"something was made good in {self.recovered} runs, a verdict was decided on in {self.asked}; "
            f"runs by fault: {kinds}"
        )


def covered_by(case: Case, report: Report) -> Covered:
    """What the run of ``case`` has covered."""
    return Covered(
        server_class=case.server_class,
        kinds=tuple(sorted({name for fired in report.fired for name in _names_of(fired)})),
        faults=len(report.fired),
        recovered=report.recovered,
        operations=sum(len(client.accepted) for client in report.clients),
        seconds=report.seconds,
        verdicts=sum(len(client.verdicts) for client in report.clients),
    )


def _names_of(fired: Fired) -> Iterator[str]:
    """The kind of a fault that has happened, and its sort, where it has one."""
    yield type(fired.fault).__name__
    match fired.fault:
        case Status(status=status) if fired.subject.endswith(_POLL):
            yield "poll 5xx" if status >= 500 else f"poll {status}"
        case RestartServer(keeps=kept):
            yield f"restart with {kept}"
        case _:
            pass
