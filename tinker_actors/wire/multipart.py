"""multipart/form-data: fields and files as one body that is made while it is sent."""

from __future__ import annotations

import math
import random
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Any, cast, final

import msgspec

from tinker_actors.errors import InvalidInput
from tinker_actors.ports import StreamedBody
from tinker_actors.wire.files import File, Files, FileSource, open_source, upload_name

__all__ = ["MultipartBody", "flattened", "open_multipart"]

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=?-]{1,70}\Z")
_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+\Z")
_TYPE = re.compile(r"[-\w.+!#$&^]+/[-\w.+!#$&^]+(?:; ?[-\w]+=(?:[-\w.+]+|\"[ -!#-\[\]-~]*\"))*\Z", re.ASCII)
_VALUE = re.compile(r"[\x20-\x7e]*\Z")
_OWN = frozenset(("content-disposition", "content-length", "content-transfer-encoding", "content-type"))
_DEEPEST = 16  # levels of fields within fields


class _Part(msgspec.Struct, frozen=True):
    head: bytes
    source: FileSource | bytes


@final
class MultipartBody(StreamedBody):
    """A body to send with ``content_type``; see ``StreamedBody``. Get one from ``open_multipart``."""

    def __init__(self, boundary: str, parts: tuple[_Part, ...]) -> None:
        self._parts = parts
        self._end = f"--{boundary}--\r\n".encode()
        self.content_type = f"multipart/form-data; boundary={boundary}"

    @property
    def size(self) -> int | None:
        """In bytes; None when that of a file is not known."""
        total = len(self._end)
        for part in self._parts:
            size = len(part.source) if isinstance(part.source, bytes) else part.source.size
            if size is None:
                return None
            total += len(part.head) + size + 2
        return total

    @property
    def again(self) -> bool:
        """Whether every file can be read again."""
        return all(isinstance(part.source, bytes) or part.source.again for part in self._parts)

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The body. Raises InvalidInput when a file can't be read or has changed its size."""
        for part in self._parts:
            if isinstance(part.source, bytes):
                yield part.head + part.source + b"\r\n"
                continue
            yield part.head
            async with aclosing(part.source.pieces()) as pieces:
                async for piece in pieces:
                    yield piece
            yield b"\r\n"
        yield self._end


async def open_multipart(
    fields: Any, files: Files, *, rng: random.Random, boundary: str | None = None
) -> MultipartBody:
    """A body of ``fields``, flattened to names like a[b] and a[], and after them ``files``.

    Every file is looked at, none is read yet. Raises InvalidInput, naming the field, for whatever can't be sent: a
    file that is missing or a folder, text where fields are due, names that would bring lines of their own.
    """
    boundary = f"{rng.getrandbits(128):032x}" if boundary is None else boundary
    if not _BOUNDARY.match(boundary):
        raise InvalidInput("boundary", "can't stand between parts", "Use 1 to 70 letters and digits")
    parts = [_Part(_head(boundary, name), _encoded(name, value)) for name, value in flattened(fields)]
    for name, given in _listed(files):
        file = _file(f"files[{name!r}]", given)
        source = await open_source(f"files[{name!r}]", file.content)
        parts.append(_Part(_head(boundary, name, file), source))
    return MultipartBody(boundary, tuple(parts))


def flattened(fields: Any) -> Iterator[tuple[str, str]]:
    """Nested ``fields`` as names and texts: {"a": {"b": 1}} is a[b], {"a": [1, 2]} is a[] twice, None is empty."""
    if fields is None:
        return
    if not isinstance(fields, Mapping):
        problem = f"are of type {type(fields).__name__}, where files need named fields beside them"
        raise InvalidInput("fields", problem, "Give a dict")
    for name, value in cast("Mapping[Any, Any]", fields).items():
        if not isinstance(name, str):
            raise InvalidInput("fields", "has a name that is no text", "Name fields by text")
        yield from _flat(name, value, _DEEPEST)


def _flat(name: str, value: Any, levels: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping | list | tuple) and not levels:
        raise InvalidInput(f"fields[{name!r}]", "is nested too deeply", f"Use at most {_DEEPEST} levels")
    if isinstance(value, Mapping):
        for key, inner in cast("Mapping[Any, Any]", value).items():
            yield from _flat(f"{name}[{key}]", inner, levels - 1)
    elif isinstance(value, list | tuple):
        for inner in cast("list[Any]", value):
            yield from _flat(f"{name}[]", inner, levels - 1)
    elif value is None:
        yield name, ""
    elif isinstance(value, bool):
        yield name, "true" if value else "false"
    elif isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        yield name, str(value)
    else:
        raise InvalidInput(f"fields[{name!r}]", f"is of type {type(value).__name__}", "Give text, numbers or None")


def _listed(files: Any) -> Iterator[tuple[str, Any]]:
    items: Any = cast("Mapping[Any, Any]", files).items() if isinstance(files, Mapping) else files
    cure = "Give a dict of names and files, or a list of (name, file)"
    if not isinstance(items, list | tuple) and not isinstance(files, Mapping):
        raise InvalidInput("files", f"are of type {type(files).__name__}", cure)
    for item in cast("list[Any]", items):
        pair: tuple[Any, ...] = cast("tuple[Any, ...]", item) if isinstance(item, tuple) else ()
        if len(pair) != 2:
            raise InvalidInput("files", "hold something else than names and files", cure)
        name, given = pair
        if not isinstance(name, str):
            raise InvalidInput("files", "has a name that is no text", cure)
        for one in cast("list[Any]", given) if isinstance(given, list) else [given]:
            yield name, one


def _file(field: str, given: Any) -> File:
    if isinstance(given, File):
        file = given
    elif isinstance(given, tuple):
        parts = cast("tuple[Any, ...]", given)
        if not 2 <= len(parts) <= 4:
            cure = "Give (name, content), (name, content, type) or (name, content, type, headers)"
            raise InvalidInput(field, f"is a tuple of {len(parts)}", cure)
        kind, headers = (*parts[2:], None, None)[:2]
        usual = File(content=parts[1], name=parts[0])
        file = msgspec.structs.replace(
            usual,
            content_type=usual.content_type if kind is None else kind,
            headers=usual.headers if headers is None else headers,
        )
    else:
        file = File(content=given)
    kind: Any = file.content_type
    if not isinstance(kind, str) or not _TYPE.match(kind):
        raise InvalidInput(field, "has a content type that is none", 'Give one like "text/plain"')
    if not isinstance(file.headers, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # no type checker at work
        raise InvalidInput(field, "has headers that are no dict", "Give a dict of names and values")
    for name, value in cast("Mapping[Any, Any]", file.headers).items():
        if not isinstance(name, str) or not _TOKEN.match(name) or name.lower() in _OWN:
            raise InvalidInput(field, "has a header of a name that can't be set", "Use other names")
        if not isinstance(value, str) or not _VALUE.match(value):
            raise InvalidInput(field, f"has a header {name} that can't be sent", "Use printable ASCII")
    return file


def _head(boundary: str, name: str, file: File | None = None) -> bytes:
    lines = [f"--{boundary}", f'Content-Disposition: form-data; name="{_quoted(name)}"']
    if file is not None:
        known = upload_name(f"files[{name!r}]", file.name, file.content)
        lines[1] += f'; filename="{_quoted(known)}"'
        lines.append(f"Content-Type: {file.content_type}")
        lines += [f"{key}: {value}" for key, value in file.headers.items()]
    return "\r\n".join((*lines, "", "")).encode()


def _quoted(name: str) -> str:
    """As HTML's standard has it; servers differ over backslashes, so there are none."""
    if not name or any(ord(sign) < 32 or sign in "\x7f\\" for sign in name):
        raise InvalidInput("fields", f"{name!r} can't name a field", "Use one line without backslashes")
    _encoded("names", name)
    return name.replace('"', "%22")


def _encoded(name: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"fields[{name!r}]", "is no Unicode text", "Use whole characters") from None
