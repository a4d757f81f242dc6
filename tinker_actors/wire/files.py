"""Files as users give them, read piece by piece when they are sent."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias, cast, final, runtime_checkable

import msgspec
import trio

from tinker_actors.errors import InvalidInput

__all__ = ["AsyncReader", "File", "FileContent", "FileSource", "Files", "GivenFile", "open_source", "upload_name"]

_PIECE = 256 << 10
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CURE = "Give bytes, a pathlib.Path, a file opened in binary mode, or an object with `async read(size)`"


@runtime_checkable
class AsyncReader(Protocol):
    """Something that is read in pieces by awaiting; b"" is its end. ``trio.open_file`` gives such a thing."""

    async def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes."""
        ...


FileContent: TypeAlias = bytes | bytearray | memoryview | os.PathLike[str] | BinaryIO | AsyncReader
"""Content itself, or where to read it. Text is neither: whether a path or content is meant, it would not say."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file to upload. ``name`` is what the server is told (default: the name of what is read, without folders),
    ``content_type`` its media type, ``headers`` go with this part alone.
    """

    content: Any
    name: str | None = None
    content_type: str = "application/octet-stream"
    headers: Mapping[str, str] = {}


GivenFile: TypeAlias = "File | FileContent | tuple[Any, ...]"
"""A File, its content alone, or (name, content), (name, content, type), (name, content, type, headers)."""

Files: TypeAlias = "Mapping[str, GivenFile | Sequence[GivenFile]] | Sequence[tuple[str, GivenFile]]"
"""Files under the names of their fields, in order; a list under one name is several files of that field."""


@final
class FileSource:
    """A file's content: ``size`` in bytes if it is known, ``again`` when it can be read more than once."""

    def __init__(self, field: str, content: Any, size: int | None, *, again: bool, start: int = 0) -> None:
        self.field = field
        self.size = size
        self.again = again
        self._content = content
        self._start = start
        self._read = False

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The content. Raises InvalidInput when it can't be read, or is not as long as it was."""
        if self._read and not self.again:
            raise InvalidInput(self.field, "has been read already", "Give content that can be read again")
        self._read = True
        sent = 0
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                sent += len(piece)
                if self.size is not None and sent > self.size:
                    raise self._changed()
                yield piece
        if self.size is not None and sent != self.size:
            raise self._changed()

    async def _pieces(self) -> AsyncGenerator[bytes]:
        content: Any = self._content
        try:
            if isinstance(content, memoryview):
                view = cast("memoryview[int]", content)
                for at in range(0, len(view), _PIECE):
                    yield bytes(view[at : at + _PIECE])
            elif isinstance(content, Path):
                async with await trio.open_file(content, "rb") as opened:
                    while piece := await opened.read(_PIECE):
                        yield piece
            elif _awaits(content):
                while piece := await content.read(_PIECE):
                    yield bytes(piece)
            else:
                if self.again:
                    await trio.to_thread.run_sync(content.seek, self._start)
                while piece := await trio.to_thread.run_sync(content.read, _PIECE):
                    yield bytes(piece)
        except (OSError, TypeError) as error:
            # outside of the reader's own words, which may quote what it read
            raise InvalidInput(self.field, f"can't be read ({type(error).__name__})", "Check the file") from error

    def _changed(self) -> InvalidInput:
        return InvalidInput(
            self.field, f"no longer has its {self.size} bytes", "Leave files alone while they are sent"
        )


async def open_source(field: str, content: Any) -> FileSource:
    """Look at ``content`` without reading it. Raises InvalidInput for what is no file."""
    if isinstance(content, bytes | bytearray | memoryview):
        view = memoryview(cast("bytes", content)).cast("B")
        return FileSource(field, view, len(view), again=True)
    if isinstance(content, str):
        raise InvalidInput(field, "is text, which may be a path or content", "Give Path(text) or text.encode()")
    if isinstance(content, os.PathLike):
        path = Path(cast("os.PathLike[str]", content))
        try:
            found = await trio.Path(path).stat()
        except (OSError, ValueError) as error:
            raise InvalidInput(field, f"{path} can't be read ({_reason(error)})", "Check the path") from None
        if stat.S_ISDIR(found.st_mode):
            raise InvalidInput(field, f"{path} is a folder", "Give its files one by one")
        regular = stat.S_ISREG(found.st_mode)
        return FileSource(field, path, found.st_size if regular else None, again=regular)
    if not callable(getattr(content, "read", None)):
        raise InvalidInput(field, f"is of type {type(content).__name__}", _CURE)
    if isinstance(content, io.TextIOBase):
        raise InvalidInput(field, "was opened as text", "Open it in binary mode")
    if _awaits(content):
        return FileSource(field, content, None, again=False)
    try:
        if content.seekable():
            start = content.tell()
            size = content.seek(0, os.SEEK_END) - start
            content.seek(start)
            return FileSource(field, content, size, again=True, start=start)
    except (OSError, ValueError, AttributeError):
        pass  # a pipe, say: it can be read, once
    return FileSource(field, content, None, again=False)


def upload_name(field: str, name: Any, content: Any) -> str:
    """What the server is told: ``name``, or the name of ``content``, without folders. Raises InvalidInput."""
    given: object = name
    if given is None:
        path = cast("os.PathLike[str]", content)
        given = os.fspath(path) if isinstance(content, os.PathLike) else getattr(content, "name", None)
    if name is None and (not isinstance(given, str) or given.startswith("<")):
        return "upload"
    if not isinstance(given, str):
        raise InvalidInput(field, f"has a name of type {type(given).__name__}", "Give text")
    short = given.replace("\\", "/").rpartition("/")[2]
    if short in ("", ".", "..") or _CONTROL.search(short):
        raise InvalidInput(field, "has a name that can't be a file's", "Give a name of one line")
    return short


def _awaits(content: Any) -> bool:
    from inspect import iscoroutinefunction

    return iscoroutinefunction(content.read)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
