"""New folders of a user's: they appear whole under their name, and one that is replaced is kept until then."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tinker_actors.errors import InvalidInput

__all__ = ["appear", "check_free", "on_disk", "sync", "workplace"]


def check_free(target: Path, *, force: bool) -> None:
    """Raises InvalidInput where ``target`` is there, unless it is a folder and ``force`` lets it be replaced."""
    with on_disk(target):
        try:
            mode = target.lstat().st_mode
        except FileNotFoundError:
            return
    if not stat.S_ISDIR(mode):
        raise InvalidInput("folder", f"{target} is there and is no folder", "Give another one")
    if not force:
        raise InvalidInput("folder", f"{target} is there", "Give another one, or force=True to replace it")


@contextmanager
def workplace(target: Path) -> Generator[Path]:
    """A folder beside ``target`` that nobody else may enter, gone afterwards."""
    with on_disk(target):
        work = Path(tempfile.mkdtemp(prefix=f".{target.name[:50]}.", dir=target.parent))
    try:
        yield work
    finally:
        with on_disk(target):
            shutil.rmtree(work)


@contextmanager
def on_disk(target: Path) -> Generator[None]:
    """Errors of the disk as InvalidInput that names ``target``."""
    try:
        yield
    except OSError as error:
        problem = f"{target} can't be written ({error.strerror})"
        raise InvalidInput("folder", problem, "Give a place with leave and room to write") from error


def sync(folder: Path) -> None:
    """Names in ``folder`` outlive the power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def appear(content: Path, target: Path, old: Path) -> None:
    """``content`` becomes ``target``. What stood there is ``old`` meanwhile, and put back if that fails."""
    replaces = target.exists()
    if replaces:
        target.rename(old)
    try:
        content.rename(target)
        sync(target.parent)
    except BaseException:
        if replaces and not target.exists():
            old.rename(target)
        raise
    if replaces:
        shutil.rmtree(old)
