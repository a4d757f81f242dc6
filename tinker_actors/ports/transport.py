"""The Transport port: one request in, one response with a body pipe out, one attempt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Literal, Protocol, TypeAlias

import msgspec

__all__ = ["Purpose", "Request", "Response", "Transport"]

Purpose: TypeAlias = Literal["session", "train", "sample", "poll", "rest", "telemetry"]
"""Which pool of connections a request uses: a long poll never waits behind a training step, or the reverse."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request.

    ``url`` is absolute. ``headers`` holds lower-case names. ``body`` is a row of buffers that are written one
    after another, so that arrays need not be joined into one copy. ``timeout`` is seconds for the whole
    exchange, from asking for a connection to the last byte of the body.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: tuple[bytes | memoryview, ...] = ()
    timeout: float = 60.0
    purpose: Purpose = "rest"

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
