"""Files for what does not fit in memory. They last as long as the process, and are read back to the bit."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import final

import msgspec

__all__ = ["SpillFiles", "SpilledFile", "SpillDamaged"]


class SpillDamaged(Exception):
    """A file is gone, or not what was written."""


class SpilledFile(msgspec.Struct, frozen=True):
    """One file and its sha256."""

    path: Path
    sha256: str


@final
class SpillFiles:
    """Files in ``folder``, which is emptied first, or in a folder of the system's for such. Every method blocks."""

    def __init__(self, folder: Path | None) -> None:
        self._given = folder
        self.folder: Path | None = None
        """Where they are; None until there is one."""
        self._written = 0
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)  # what a killed process has left

    def write(self, data: bytes) -> SpilledFile:
        """Keep ``data``. Raises OSError, and then nothing is left of it."""
        folder = self._open()
        self._written += 1
        path = folder / str(self._written)
        try:
            path.write_bytes(data)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return SpilledFile(path, hashlib.sha256(data).hexdigest())

    def read(self, file: SpilledFile) -> bytes:
        """What was written. Raises SpillDamaged."""
        try:
            data = file.path.read_bytes()
        except OSError as error:
            raise SpillDamaged(str(error)) from error
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise SpillDamaged(f"{file.path} is not what was written")
        return data

    def remove(self, file: SpilledFile) -> None:
        """Delete a file."""
        file.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete them all."""
        folder, self.folder = self.folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _open(self) -> Path:
        if self.folder is None:
            if self._given is None:
                self.folder = Path(tempfile.mkdtemp(prefix="tinker-actors-"))
            else:
                self._given.mkdir(mode=0o700, exist_ok=True)
                self.folder = self._given
        return self.folder
