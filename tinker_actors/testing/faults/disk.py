"""Faults of the client's disk. What a death loses or tears is drawn by ``SimulatedDisk.die`` (KillRuntime)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final, final

from tinker_actors import errors
from tinker_actors.testing.faults.kinds import Ending, FaultKind, positive

__all__ = ["DiskFault", "FullDisk", "PlannedDisk"]

_CHANGES: Final = ("append", "replace", "make_folder")


class DiskFault(FaultKind, frozen=True, kw_only=True):
    """Something that happens to changes ``nth`` to ``nth + times - 1`` of the files of a runtime, and after a death
    of those of the next.
    """

    where: ClassVar[str] = "a simulated disk"
    ends: ClassVar[Ending] = Ending.ERROR
    nth: int = 1
    times: int = 1

    def __post_init__(self) -> None:
        FaultKind.__post_init__(self)
        positive("nth", self.nth)
        positive("times", self.times)


class FullDisk(DiskFault, frozen=True, kw_only=True):
    """There is no room for what is written."""


@final
class PlannedDisk:
    """What ``SimulatedDisk(fault=...)`` asks before each call; ``before`` is asked first."""

    def __init__(
        self,
        faults: tuple[DiskFault, ...],
        told: Callable[[DiskFault, str, int], None],
        before: Callable[[str, Path], None] | None,
    ) -> None:
        self._faults = faults
        self._told = told
        self._before = before
        self._changes = 0

    def __call__(self, call: str, path: Path) -> None:
        """Raise DiskFull where it is time."""
        if self._before is not None:
            self._before(call, path)
        if call not in _CHANGES:
            return
        self._changes += 1
        for fault in self._faults:
            if fault.nth <= self._changes < fault.nth + fault.times:
                self._told(fault, f"{call} {path}", self._changes)
                raise errors.DiskFull(path, "can't be written: No space left on device (injected)", "Make room")
