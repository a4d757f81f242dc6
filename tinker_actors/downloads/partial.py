"""The folder beside a download's own in which it grows, and from which it goes on after it broke off."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from pathlib import Path
from typing import Self, final

from tinker_actors.archives.folder import on_disk
from tinker_actors.errors import InvalidInput

__all__ = ["PartialFolder"]


@final
class PartialFolder:
    """``.NAME.partial`` beside ``target``, for one download at a time in all processes. Everything here blocks."""

    def __init__(self, path: Path, lock: int, target: Path) -> None:
        self.path = path
        self._lock = lock
        self._target = target

    @property
    def old(self) -> Path:
        """Where what is replaced stands for the moment in which it has no place of its own."""
        return self.path / "old"

    @property
    def exported(self) -> Path:
        """Where it is noted which external weights were made for this download."""
        return self.path / "exported"

    @classmethod
    def open(cls, target: Path) -> Self:
        """Make it, or take it over from a download that broke off.

        Raises InvalidInput where another download is at it, or there is no leave or room to write.
        """
        path = target.with_name(f".{target.name[:200]}.partial")
        with on_disk(target):
            while True:
                path.mkdir(mode=0o700, exist_ok=True)
                if not stat.S_ISDIR(path.lstat().st_mode):
                    raise InvalidInput("output_dir", f"{path} is there and is no folder", "Move it away")
                lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(lock)
                    problem = f"{target} is being downloaded already"
                    raise InvalidInput("output_dir", problem, "Wait for that, or give another folder") from None
                except BaseException:
                    os.close(lock)
                    raise
                if _is(path / "lock", lock):
                    found = cls(path, lock, target)
                    if found.old.is_dir() and not target.exists():  # a process ended between two renames
                        found.old.rename(target)
                    return found
                os.close(lock)  # of a download that has just ended, and took the folder with it

    def close(self, *, keep: bool) -> None:
        """End with it; with ``keep`` what has arrived, if anything has, stays for the next time."""
        try:
            begun = self.exported.exists() or any(part.stat().st_size for part in self.path.glob("parts/*.part"))
            if not (keep and begun):
                with on_disk(self._target):
                    shutil.rmtree(self.path)
        finally:
            os.close(self._lock)


def _is(path: Path, descriptor: int) -> bool:
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)
