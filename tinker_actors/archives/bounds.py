"""How much an archive may hold."""

from __future__ import annotations

from typing import final

import msgspec

from tinker_actors.checks import integer
from tinker_actors.errors import ArchiveError

__all__ = ["ArchiveBounds", "Budget"]


class ArchiveBounds(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive may hold; one with more is refused. Sizes are in bytes. Raises InvalidInput.

    ``members`` counts files and folders. ``total_bytes`` is for everything that is unpacked. Beyond ``small_bytes``
    nothing may unpack to more than ``ratio`` times the size of the archive: weights hardly shrink, so what grows
    like that was made to fill a disk.
    """

    members: int = 10_000
    total_bytes: int = 256 << 30
    ratio: int = 100
    small_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        for name in ("members", "total_bytes", "ratio"):
            integer(name, getattr(self, name), "Allow at least 1", low=1)
        integer("small_bytes", self.small_bytes, "Give 0 for no archive that is too small to matter", low=0)


@final
class Budget:
    """What is left of the bounds for one archive of ``size`` bytes."""

    def __init__(self, bounds: ArchiveBounds, size: int) -> None:
        self._bounds = bounds
        self._ratio = max(bounds.small_bytes, bounds.ratio * size)
        self._bytes = self._members = 0

    def member(self) -> None:
        """One more member."""
        self._members += 1
        if self._members > self._bounds.members:
            raise ArchiveError(f"it has more than {self._bounds.members} members")

    def take(self, count: int) -> None:
        """``count`` more bytes."""
        self._bytes += count
        self.check(0)

    def check(self, count: int) -> None:
        """Whether ``count`` more bytes would be allowed."""
        total = self._bytes + count
        if total > self._bounds.total_bytes:
            raise ArchiveError(f"it unpacks to more than {self._bounds.total_bytes} bytes")
        if total > self._ratio:
            raise ArchiveError(f"it unpacks to more than {self._bounds.ratio} times its size")
