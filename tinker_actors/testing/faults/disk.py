"""Faults of the client's disk: no room, and deaths at the worst moments of a write.

What a death at any other moment loses or tears (KillRuntime) is drawn by ``SimulatedDisk.die``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final, final

from tinker_actors import errors
from tinker_actors.testing.faults.kinds import Ending, FaultKind, positive

__all__ = ["DeathAtDisk", "DiskFault", "FullDisk", "LostSync", "PlannedDisk", "TornWrite"]

_CHANGES: Final = ("append", "replace", "make_folder")


class DiskFault(FaultKind, frozen=True, kw_only=True):
    """Something that happens at calls ``nth`` to ``nth + times - 1`` of some kind, by a runtime to its disk, and
    after its death by the next.
    """

    where: ClassVar[str] = "a simulated disk"
    nth: int = 1
    times: int = 1

    def __post_init__(self) -> None:
        FaultKind.__post_init__(self)
        positive("nth", self.nth)
        positive("times", self.times)


class FullDisk(DiskFault, frozen=True, kw_only=True):
    """There is no room for a change: what is appended or replaced, or a folder."""

    ends: ClassVar[Ending] = Ending.ERROR


class DeathAtDisk(DiskFault, frozen=True, kw_only=True):
    """The client's process dies within such a call, and the same program runs again, as after KillRuntime."""


class TornWrite(DeathAtDisk, frozen=True, kw_only=True):
    """The process dies within an append: of what the file was not synced with a part is missing, cut off at any byte
    or with zeros in its place.
    """


class LostSync(DeathAtDisk, frozen=True, kw_only=True):
    """The process dies within a sync: nothing is there of what it was to make certain, nor the file, if it is new."""


@final
class PlannedDisk:
    """What a ``SimulatedDisk`` asks: as its ``fault`` before each call, its own being ``before``, which is asked
    first; and by ``dies`` as its ``death``.

    ``kill`` lets the process die, with what is torn and what is lost; None when there is nobody to die, and no call
    is counted for that.
    """

    def __init__(
        self,
        faults: tuple[DiskFault, ...],
        told: Callable[[DiskFault, str, int], None],
        before: Callable[[str, Path], None] | None,
    ) -> None:
        self._full = [fault for fault in faults if isinstance(fault, FullDisk)]
        self._deaths = [fault for fault in faults if isinstance(fault, DeathAtDisk)]
        self._told = told
        self._before = before
        self._changes = 0
        self._calls: Counter[str] = Counter()
        self.kill: Callable[[Path | None, Path | None], object] | None = None

    def __call__(self, call: str, path: Path) -> None:
        """Raise DiskFull where it is time."""
        if self._before is not None:
            self._before(call, path)
        if call not in _CHANGES:
            return
        self._changes += 1
        for fault in self._full:
            if _is_due(fault, self._changes):
                self._told(fault, f"{call} {path}", self._changes)
                raise errors.DiskFull(path, "can't be written: No space left on device (injected)", "Make room")

    def dies(self, call: str, path: Path) -> None:
        """Let the process die where it is time."""
        if self.kill is None:
            return
        self._calls[call] += 1
        for fault in self._deaths:
            torn = isinstance(fault, TornWrite)
            if call == ("append" if torn else "sync") and _is_due(fault, self._calls[call]):
                self._told(fault, f"{call} {path}", self._calls[call])
                self.kill(path if torn else None, None if torn else path)
                return


def _is_due(fault: DiskFault, number: int) -> bool:
    return fault.nth <= number < fault.nth + fault.times
