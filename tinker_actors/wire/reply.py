"""A reply that was read whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from tinker_actors.codec.compression import decompress
from tinker_actors.errors import APIConnectionError, DecodeError
from tinker_actors.ports import Response

__all__ = ["ParsedReply", "Reply", "start_of", "unpacked"]

T = TypeVar("T")


class Reply(msgspec.Struct, frozen=True):
    """A reply, its body whole and decompressed. ``name`` is the request's method and path."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    name: str

    def header(self, name: str) -> str | None:
        """The value of the header ``name``, in whatever case."""
        return self.headers.get(name.lower())

    @property
    def content_type(self) -> str:
        """In lower case, with its parameters."""
        return self.headers.get("content-type", "").lower()


class ParsedReply(msgspec.Struct, Generic[T], frozen=True):
    """A value, and the reply that it was read from."""

    value: T
    reply: Reply


def unpacked(response: Response, body: bytes, limit: int) -> bytes:
    """An error's body; nothing where it is damaged, since the status is known."""
    try:
        return decompress(body, response.headers.get("content-encoding", ""), limit=limit)
    except DecodeError:
        return b""


async def start_of(response: Response, limit: int) -> bytes:
    """The first ``limit`` bytes; what is cut off counts as well, since the status is known."""
    body = bytearray()
    pieces: Any = response.stream()
    try:
        async for piece in pieces:
            body += piece
            if len(body) >= limit:
                break
    except APIConnectionError:
        pass
    finally:
        await pieces.aclose()
        await response.aclose()
    return bytes(body[:limit])
