"""The Disk port: files that outlive the process, and what of them a death can take."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

__all__ = ["Disk"]


class Disk(Protocol):
    """Files and folders by absolute path. Nothing here blocks the event loop.

    What ``append`` wrote is certain to outlive the process's or machine's death once ``sync`` has returned; until
    then any part of it may be lost or torn. All other changes are certain when they have returned; one that a death
    comes in between has happened wholly or not at all. A waiter that is cancelled does not stop what has begun.

    An append that fails leaves the file as it was. One task at a time changes a file; ``lock`` sees to it between
    processes.

    Each method raises a DiskError: DiskFull, DiskReadOnly where there is no leave, DiskMissing for a file or folder
    that is not there, NotAFolder where a file is in the way of one.
    """

    async def read(self, path: Path, *, offset: int = 0, size: int | None = None) -> bytes:
        """``size`` bytes of the file from ``offset`` on, or all; fewer where it ends before."""
        ...

    async def size(self, path: Path) -> int | None:
        """Bytes of the file; None where there is none."""
        ...

    async def append(self, path: Path, parts: Sequence[bytes | memoryview]) -> int:
        """Write ``parts`` one after another to the file's end, and return where they begin. It is made if needed."""
        ...

    async def sync(self, path: Path) -> None:
        """Make certain what was appended to the file, and that the file is there."""
        ...

    async def replace(self, path: Path, data: bytes) -> None:
        """Let the file hold ``data`` and nothing else: whoever reads it, ever, finds the old or the new."""
        ...

    async def truncate(self, path: Path, size: int) -> None:
        """Cut the file to its first ``size`` bytes. Raises DiskDamaged where it is shorter than that."""
        ...

    async def remove(self, path: Path) -> None:
        """Remove the file, if it is there."""
        ...

    async def names(self, folder: Path) -> tuple[str, ...]:
        """The names in ``folder``, sorted, without what a ``replace`` has left that a death came in between."""
        ...

    async def make_folder(self, folder: Path, *, private: bool = False) -> None:
        """Make ``folder``, and those above it, unless it is there.

        A ``private`` one is for this user alone: DiskReadOnly where it is there and is another's, or open to others.
        """
        ...

    async def remove_folder(self, folder: Path) -> None:
        """Remove ``folder`` and all that is in it, if it is there. A death in between may leave a part."""
        ...

    def lock(self, path: Path) -> AbstractAsyncContextManager[None]:
        """Hold the file ``path``, which is made if needed, alone for as long as the block; the end of the process
        lets it go, whatever others it has forked. Raises DiskLocked where somebody else holds it.
        """
        ...

    async def locked(self, path: Path) -> bool:
        """Whether somebody holds the file ``path``. Nobody who takes it meanwhile is refused; nothing is made."""
        ...
