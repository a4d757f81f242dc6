"""Digests of files as servers and stores of files tell them in headers."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["digest_of", "FileDigest"]

_ALGORITHMS: Final = {"sha-512": ("sha512", 64), "sha-256": ("sha256", 32), "md5": ("md5", 16)}  # the best first
_ITEM: Final = re.compile(r"\s*([A-Za-z0-9-]+)=:?([A-Za-z0-9+/_-]+={0,2}):?\s*")


class FileDigest(msgspec.Struct, frozen=True):
    """What the bytes of a whole file come to."""

    algorithm: str
    value: str  # hexadecimal

    def matches(self, path: Path) -> bool:
        """Whether the file ``path`` comes to it; blocking."""
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, lambda: hashlib.new(self.algorithm, usedforsecurity=False))
        return digest.hexdigest() == self.value


def digest_of(headers: Mapping[str, str], *, whole: bool) -> FileDigest | None:
    """The strongest digest of the whole file that the headers of its reply give.

    Those of Repr-Digest (RFC 9530), Digest (RFC 3230) and the stores of Amazon and Google are of the file; those of
    Content-Digest and Content-MD5 of what was sent, and so of the file where that is the ``whole`` of it.
    """
    found: dict[str, str] = {}
    for name, text in _told(headers, whole=whole):
        algorithm, size = _ALGORITHMS[name]
        try:
            value = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
        except (ValueError, binascii.Error):
            continue
        if len(value) == size:
            found.setdefault(algorithm, value.hex())
    return next((FileDigest(name, found[name]) for name, _ in _ALGORITHMS.values() if name in found), None)


def _told(headers: Mapping[str, str], *, whole: bool) -> Iterator[tuple[str, str]]:
    for header in ("repr-digest", "digest", "x-goog-hash", *(("content-digest",) if whole else ())):
        for item in headers.get(header, "").split(","):
            if (match := _ITEM.fullmatch(item)) and match[1].lower() in _ALGORITHMS:
                yield match[1].lower(), match[2]
    yield "sha-256", headers.get("x-amz-checksum-sha256", "")
    if whole:
        yield "md5", headers.get("content-md5", "")
