"""The members of an archive, one after another, each checked before anything of it is handed out."""

from __future__ import annotations

import io
import stat
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from gzip import GzipFile
from typing import IO, Any, cast, final

import msgspec

from tinker_actors.archives.bounds import ArchiveBounds, Budget
from tinker_actors.archives.names import Names, safe_name, shown
from tinker_actors.errors import ArchiveError

__all__ = ["Member", "members"]

PIECE = 1 << 18
_BLOCK = 512  # of a tar
_HEADER = 8 << 10  # bytes of all headers of one member of a tar; the usual ones take 512 to 3,072
_ZIP_END = 128 << 10  # bytes that are read to find a zip's directory
_ZIP_ENTRY = 256  # bytes of the directory for each member that is allowed
_ENCRYPTED = 1
_GZIP, _ZIPS = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")


class Member(msgspec.Struct, frozen=True):
    """A file of ``size`` bytes, or a folder. ``read`` gives the next bytes of it, b"" at its end."""

    parts: tuple[str, ...]
    folder: bool
    size: int
    read: Callable[[], bytes]


def members(archive: IO[bytes], bounds: ArchiveBounds) -> Iterator[Member]:
    """The members of a tar, a tar in gzip or a zip; which it is its first bytes tell. Each is to be read to its end
    before the next one is asked for.

    Raises ArchiveError: for names that ``safe_name`` refuses or that meet, for anything but files and folders, for
    more than ``bounds``, and for what is damaged, cut off, encrypted, or followed by something else.
    """
    size = archive.seek(0, io.SEEK_END)
    archive.seek(0)
    start = archive.read(4)
    archive.seek(0)
    budget, names = Budget(bounds, size), Names()
    if start in _ZIPS:
        return _of_zip(archive, bounds, budget, names)
    plain = cast("IO[bytes]", GzipFile(fileobj=archive)) if start.startswith(_GZIP) else archive
    return _of_tar(_Forward(plain, budget), budget, names)


@final
class _Forward:
    """A file for tarfile that only goes forward, and gives it no more for a header than one may have."""

    def __init__(self, source: IO[bytes], budget: Budget) -> None:
        self._source = source
        self._budget = budget
        self._at = 0
        self._left = _HEADER
        self.last = b""

    def header(self) -> None:
        """What follows is the next member's header."""
        self._left = _HEADER

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._left:
            raise ArchiveError(f"a member has more than {_HEADER} bytes of headers")
        self._left -= size
        self.last = self.content(size)
        return self.last

    def content(self, size: int) -> bytes:
        """At most ``size`` bytes, which may be many."""
        with _damage("archive"):
            piece = self._source.read(size)
        self._at += len(piece)
        self._budget.take(len(piece))
        return piece

    def tell(self) -> int:
        return self._at

    def seek(self, to: int) -> int:
        if to < self._at:
            raise ArchiveError("its members overlap")
        while self._at < to:
            if not self.content(min(PIECE, to - self._at)):
                raise ArchiveError("it is cut off")
        return self._at


def _of_tar(source: _Forward, budget: Budget, names: Names) -> Iterator[Member]:
    import tarfile

    with _damage("tar"):
        tar = tarfile.TarFile(fileobj=cast("Any", source), encoding="utf-8")
        found = tar.next()
    while found is not None:
        budget.member()
        plain = found.isfile() and not found.issparse()
        if not plain and not found.isdir():
            raise ArchiveError(f"{shown(found.name)} is {_kind(found)}")
        if found.isdir() and found.name in (".", "./", ""):
            pass  # the folder that was packed, and stands for the target
        else:
            parts = safe_name(found.name)
            names.add(parts, folder=found.isdir())
            if plain:
                if found.size < 0:
                    raise ArchiveError(f"{shown(found.name)} has a negative size")
                budget.check(found.size)
                source.seek(found.offset_data)
            yield Member(parts, found.isdir(), found.size, _of_size(source, found.size) if plain else bytes)
        source.header()
        with _damage("tar"):
            found = tar.next()
    # tarfile takes what is no header for the end
    if source.last != bytes(_BLOCK):
        raise ArchiveError("it is damaged or cut off: its end is missing")
    while rest := source.content(PIECE):
        if rest.count(0) != len(rest):
            raise ArchiveError("there is something behind its end")


def _of_size(source: _Forward, size: int) -> Callable[[], bytes]:
    left = size

    def read() -> bytes:
        nonlocal left
        piece = source.content(min(PIECE, left)) if left else b""
        if left and not piece:
            raise ArchiveError("it is cut off")
        left -= len(piece)
        return piece

    return read


def _kind(found: Any) -> str:
    if found.issym() or found.islnk():
        return "a link"
    if found.isdev():
        return "a device or pipe"
    return "neither a file nor a folder"


@final
class _Capped:
    """A file for zipfile, which gives it at most ``most`` bytes at a time."""

    def __init__(self, source: IO[bytes], most: int) -> None:
        self._source = source
        self._most = most
        self._size = source.seek(0, io.SEEK_END)
        source.seek(0)

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            size = max(0, self._size - self._source.tell())
        if size > self._most:
            raise ArchiveError("its directory is too large")
        return self._source.read(size)

    def seek(self, to: int, whence: int = io.SEEK_SET) -> int:
        return self._source.seek(to, whence)

    def tell(self) -> int:
        return self._source.tell()

    def seekable(self) -> bool:
        return True


def _of_zip(archive: IO[bytes], bounds: ArchiveBounds, budget: Budget, names: Names) -> Iterator[Member]:
    import zipfile

    source = _Capped(archive, max(_ZIP_END, bounds.members * _ZIP_ENTRY))
    with _damage("zip"):
        zipped = zipfile.ZipFile(cast("Any", source))
    with zipped:
        listed = zipped.infolist()
        declared = 0
        for info in listed:
            budget.member()
            mode = info.external_attr >> 16
            if info.flag_bits & _ENCRYPTED:
                raise ArchiveError(f"{shown(info.filename)} is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ArchiveError(f"{shown(info.filename)} is compressed in a way that is not known")
            if stat.S_IFMT(mode) not in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG):
                raise ArchiveError(f"{shown(info.filename)} is {'a link' if stat.S_ISLNK(mode) else 'no file'}")
            if info.is_dir() and info.file_size:
                raise ArchiveError(f"{shown(info.filename)} is a folder that holds bytes")
            names.add(_zip_name(info), folder=info.is_dir())
            declared += info.file_size
        budget.check(declared)
        for info in listed:
            if info.is_dir():
                yield Member(_zip_name(info), True, 0, bytes)
                continue
            with _damage("zip"):
                stream = zipped.open(info)
            with stream:
                yield Member(_zip_name(info), False, info.file_size, _of_stream(stream, info.file_size, budget))


def _zip_name(info: Any) -> tuple[str, ...]:
    name: str = info.orig_filename  # the other one ends at a NUL
    return safe_name(name.removesuffix("/") if info.is_dir() else name)


def _of_stream(stream: IO[bytes], size: int, budget: Budget) -> Callable[[], bytes]:
    left = size

    def read() -> bytes:
        nonlocal left
        with _damage("zip"):
            piece = stream.read(PIECE)
        budget.take(len(piece))
        left -= len(piece)
        if not piece and left:
            raise ArchiveError("it is cut off")
        return piece

    return read


@contextmanager
def _damage(kind: str) -> Generator[None]:
    """The libraries raise many things for damage; all of them are an ArchiveError."""
    import struct
    import tarfile
    import zipfile

    try:
        yield
    except (
        EOFError,
        LookupError,
        NotImplementedError,
        OSError,
        OverflowError,
        RecursionError,
        RuntimeError,
        ValueError,
        struct.error,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(f"it is no sound {kind}: {error or type(error).__name__}") from error
