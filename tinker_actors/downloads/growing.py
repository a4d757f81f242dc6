"""A file that grows on the disk, with what is known of the whole."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import final

import msgspec

from tinker_actors.archives.folder import on_disk
from tinker_actors.downloads.digests import FileDigest
from tinker_actors.errors import InvalidInput

__all__ = ["Expected", "GrowingFile"]


class Expected(msgspec.Struct, frozen=True):
    """What the server said of the whole: which version it is, how large, and what its bytes come to."""

    validator: str | None = None
    total: int | None = None
    digest: FileDigest | None = None


@final
class GrowingFile:
    """The bytes of the file ``name`` that have arrived, in ``folder`` under a name of their own: ``path``.

    Everything here blocks. Errors of the disk are InvalidInput that names ``target``, the user's folder.
    """

    def __init__(self, name: str, folder: Path, target: Path) -> None:
        self.path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.part"
        self._about = self.path.with_suffix(".json")
        self._target = target
        self.expected = Expected()
        self.size = 0

    @property
    def resumes_at(self) -> int:
        """From where on bytes are to be asked for.

        Of a file that is whole it is the last byte: the answer says whether the server still has that version.
        """
        total = self.expected.total
        if self.expected.validator is None:  # who knows of which version these bytes are
            return 0
        return self.size if total is None else max(0, min(self.size, total - 1))

    def take_up(self) -> None:
        """Look at what is there already."""
        with on_disk(self._target):
            self.path.parent.mkdir(exist_ok=True)
            try:
                self.expected = msgspec.json.decode(self._about.read_bytes(), type=Expected)
                self.size = self.path.stat().st_size
            except (FileNotFoundError, msgspec.DecodeError):
                self.expected, self.size = Expected(), 0

    def begin(self, expected: Expected, *, at: int) -> None:
        """Bytes from ``at`` on are about to come, of the file that ``expected`` describes.

        Raises InvalidInput where the disk has no room for them.
        """
        with on_disk(self._target):
            missing = 0 if expected.total is None else expected.total - at
            free = shutil.disk_usage(self.path.parent).free + self.size - at
            if missing > free:
                problem = f"{self._target} can't be written: {free:,} bytes are free where {missing:,} are missing"
                raise InvalidInput("output_dir", problem, "Make room, or give another place")
            if at == 0:
                self.path.unlink(missing_ok=True)  # before what it was is forgotten
            scratch = self._about.with_suffix(".new")
            scratch.write_bytes(msgspec.json.encode(expected))
            scratch.replace(self._about)
            with self.path.open("ab") as stream:
                stream.truncate(at)
        self.expected, self.size = expected, at

    def write(self, pieces: list[bytes]) -> None:
        """Append."""
        with on_disk(self._target), self.path.open("ab") as stream:
            stream.writelines(pieces)
        self.size += sum(map(len, pieces))

    def is_sound(self) -> bool:
        """Whether the bytes come to the digest that was told, if one was; they are on the disk then."""
        digest = self.expected.digest
        with on_disk(self._target):
            with self.path.open("rb") as stream:
                os.fsync(stream.fileno())
            return digest is None or digest.matches(self.path)

    def drop(self) -> None:
        """Begin anew."""
        with on_disk(self._target):
            self.path.unlink(missing_ok=True)
            self._about.unlink(missing_ok=True)
        self.expected, self.size = Expected(), 0
