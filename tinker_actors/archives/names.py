"""Names of files that somebody else chose: which may be created below a folder of ours."""

from __future__ import annotations

import re
import unicodedata
from typing import final

from tinker_actors.errors import ArchiveError

__all__ = ["Names", "safe_name"]

_LONGEST_PART = 255  # bytes; file systems take no more
_LONGEST = 1024  # bytes
_DEEPEST = 32  # parts
_LONGEST_SHOWN = 80
_DRIVE = re.compile(r"[A-Za-z]:")


def safe_name(name: str) -> tuple[str, ...]:
    """The parts of the relative path ``name``, fit to be created below a folder; a leading "./" is dropped.

    Raises ArchiveError for an absolute path, "..", an empty part, a backslash, a drive, control characters, what is
    no Unicode, and what is too long or too deep for a file system.
    """
    while name.startswith("./"):
        name = name[2:]
    problem = _problem(name)
    if problem:
        raise ArchiveError(f"the name {shown(name)} {problem}")
    return tuple(name.split("/"))


def shown(name: str) -> str:
    """``name`` for an error: one line, not too long."""
    text = ascii(name)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _problem(name: str) -> str:
    if not name:
        return "is empty"
    if name.startswith(("/", "\\")) or _DRIVE.match(name):
        return "is absolute"
    if "\\" in name:
        return "holds a backslash"
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name):
        return "holds control characters or is no Unicode"
    parts = name.split("/")
    if ".." in parts:
        return "leads out of its folder"
    if "" in parts or "." in parts:
        return "has an empty part"
    if max(len(part.encode()) for part in parts) > _LONGEST_PART or len(name.encode()) > _LONGEST:
        return "is too long"
    if len(parts) > _DEEPEST:
        return f"has more than {_DEEPEST} parts"
    return ""


@final
class Names:
    """The tree that the members of one archive make; no two may meet in one place.

    Names that differ only in case or in the form of their Unicode are one place on some systems, so they are here.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, bool, bool]] = {}  # spelling, whether a folder, whether named itself

    def add(self, parts: tuple[str, ...], *, folder: bool) -> None:
        """One more member. Raises ArchiveError where there is something else already."""
        for depth in range(1, len(parts)):
            self._put("/".join(parts[:depth]), folder=True, named=False)
        self._put("/".join(parts), folder=folder, named=True)

    def _put(self, path: str, *, folder: bool, named: bool) -> None:
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
        spelling, is_folder, was_named = self._seen.get(key, (path, folder, False))
        if spelling != path:
            raise ArchiveError(f"the names {shown(spelling)} and {shown(path)} are one on some systems")
        if is_folder != folder:
            raise ArchiveError(f"the name {shown(path)} is that of a file and of a folder")
        if named and was_named:
            raise ArchiveError(f"the name {shown(path)} is there twice")
        self._seen[key] = (path, folder, named or was_named)
