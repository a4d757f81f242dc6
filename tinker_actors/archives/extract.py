"""Unpacking: everything that an archive holds appears under its name at once, or nothing does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeAlias

import msgspec

from tinker_actors.archives.bounds import ArchiveBounds
from tinker_actors.archives.folder import appear, check_free, on_disk, sync, workplace
from tinker_actors.archives.read import Member, members
from tinker_actors.checks import flag
from tinker_actors.errors import ArchiveError, InvalidInput

__all__ = ["Extracted", "extract_archive"]

Progress: TypeAlias = Callable[[int], object]


class Extracted(msgspec.Struct, frozen=True):
    """A folder, the files in it as relative paths in the order of the archive, and the sum of their sizes."""

    folder: Path
    files: tuple[str, ...]
    total_bytes: int


def extract_archive(
    archive: str | Path,
    folder: str | Path,
    *,
    force: bool = False,
    bounds: ArchiveBounds | None = None,
    progress: Progress | None = None,
) -> Extracted:
    """Unpack the file ``archive``, a tar, a tar in gzip or a zip, as the new folder ``folder``; blocking.

    Only names and contents are taken from the archive: no owner, no mode, no time. ``folder`` appears once all is
    on the disk; one that is there already is replaced only with ``force``, and only then. ``progress`` is called with
    the bytes written so far; what it raises ends the work, as ``trio.from_thread.check_cancelled`` does when the
    caller was cancelled.

    Raises ArchiveError for an archive that does what it may not (``safe_name`` and ArchiveBounds say what) or is
    damaged; InvalidInput for a ``folder`` that is there or can't be written and an ``archive`` that can't be read.
    Whatever is raised, nothing is left behind, and what was there still is. A process that is killed leaves a folder
    named .NAME.something beside ``folder``, and what it was to replace there, never half of one under its name.
    """
    source, target = Path(archive), Path(folder).absolute()
    flag("force", force)
    if not target.name or target.name == "..":
        raise InvalidInput("folder", f"{folder} names no new folder", "Give one that can be made")
    check_free(target, force=force)
    try:
        opened = source.open("rb")
    except OSError as error:
        raise InvalidInput("archive", f"{source} can't be read ({error.strerror})", "Give a file") from None
    with opened, workplace(target) as work:
        content = work / "content"
        with on_disk(target):
            content.mkdir()  # with the usual mode, which that of its parent is not
        try:
            extracted = _fill(content, opened, target, bounds or ArchiveBounds(), progress)
        except ArchiveError as error:
            raise ArchiveError(f"{source.name} was not unpacked: {error}") from error.__cause__
        check_free(target, force=force)  # that took its time
        with on_disk(target):
            appear(content, target, work.with_name(f"{work.name}.old"))
    return extracted


def _fill(
    folder: Path, archive: IO[bytes], target: Path, bounds: ArchiveBounds, progress: Progress | None
) -> Extracted:
    files: list[str] = []
    folders = {folder}
    total = 0
    for member in members(archive, bounds):
        path = folder.joinpath(*member.parts)
        with on_disk(target):
            for parent in _missing(path if member.folder else path.parent, folders):
                parent.mkdir()
                folders.add(parent)
        if not member.folder:
            total = _write(path, member, target, total, progress)
            files.append("/".join(member.parts))
    with on_disk(target):
        for each in folders:
            sync(each)
    return Extracted(target, tuple(files), total)


def _missing(path: Path, known: set[Path]) -> list[Path]:
    missing: list[Path] = []
    while path not in known:
        missing.append(path)
        path = path.parent
    return missing[::-1]


def _write(path: Path, member: Member, target: Path, total: int, progress: Progress | None) -> int:
    with on_disk(target):
        file = path.open("xb", buffering=0)
    with file:
        while piece := member.read():
            with on_disk(target):
                rest = memoryview(piece)
                while rest:
                    rest = rest[file.write(rest) :]
            total += len(piece)
            if progress is not None:
                progress(total)
        with on_disk(target):
            os.fsync(file.fileno())
    return total
