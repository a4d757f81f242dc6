"""The Transport port: one request in, one response with a body pipe out, one attempt."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Literal, Protocol, TypeAlias

import msgspec

__all__ = ["Purpose", "Request", "Response", "StreamedBody", "Transport"]

Purpose: TypeAlias = Literal["session", "train", "sample", "poll", "rest", "telemetry"]
"""Which pool of connections a request uses: a long poll never waits behind a training step, or the reverse."""


class StreamedBody(Protocol):
    """A body that is made while it is sent, so that the whole of it is never in memory."""

    @property
    def size(self) -> int | None:
        """Its length in bytes; None when that is not known, and it is sent in chunks."""
        ...

    @property
    def again(self) -> bool:
        """Whether ``pieces`` can be asked for once more, and gives the same."""
        ...

    def pieces(self) -> AsyncGenerator[bytes]:
        """The body from its beginning."""
        ...


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request.

    ``url`` is absolute. ``headers`` holds lower-case names. ``body`` is a row of buffers that are written one
    after another, so that arrays need not be joined into one copy; ``stream`` is a body instead of it. ``timeout``
    is seconds for the whole exchange, from asking for a connection to the last byte of the body.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: tuple[bytes | memoryview, ...] = ()
    stream: StreamedBody | None = None
    timeout: float = 60.0
    purpose: Purpose = "rest"

    @property
    def size(self) -> int | None:
        """Bytes of the body; None when it is not known."""
        if self.stream is not None:
            return self.stream.size
        return sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in self.body)

    def __repr__(self) -> str:
        # a header holds the credential
        return f"Request({self.method} {self.url}, {self.purpose})"


class Response(Protocol):
    """A response whose head has arrived. Read its body, or close it; either frees the connection."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Header values under lower-case names."""
        ...

    def stream(self) -> AsyncIterator[bytes]:
        """The body, piece by piece as it arrives."""
        ...

    async def read(self, limit: int) -> bytes:
        """The whole body; APIResponseError when it is longer than ``limit`` bytes."""
        ...

    async def aclose(self) -> None:
        """Give up the rest of the body."""
        ...


class Transport(Protocol):
    """Carries requests. Implementations never retry.

    ``send`` raises APIConnectionError (``sent=False`` when the server certainly saw nothing) and
    APITimeoutError; an error status is a response like any other.
    """

    async def send(self, request: Request) -> Response:
        """Send ``request`` and return when the head of its response is there."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
