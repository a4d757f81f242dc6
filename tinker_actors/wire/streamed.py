"""A reply whose body is read as it arrives."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, final

from tinker_actors.errors import APIResponseError, DecodeError
from tinker_actors.ports import Response
from tinker_actors.wire.secrets import Secrets
from tinker_actors.wire.sse import ServerSentEvent, SSEDecoder

__all__ = ["StreamedReply"]


@final
class StreamedReply:
    """A successful reply whose head is there. Made by ``Api.open``; leaving that block frees the connection.

    ``name`` is the request's method and path. The body can be read once, in one of the three ways, and no further
    than ``limit`` bytes: APIResponseError then. A stream that breaks raises APIConnectionError, one that takes longer
    than the request was given APITimeoutError.
    """

    def __init__(self, response: Response, name: str, limit: int, secrets: Secrets) -> None:
        self._response = response
        self._secrets = secrets
        self._limit = limit
        self._size = 0
        self._stream: Any = None
        self.name = name

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """Header values under lower-case names."""
        return self._response.headers

    def pieces(self) -> AsyncIterator[bytes]:
        """The body, piece by piece as it arrives."""
        return _Pieces(self)

    def events(self) -> AsyncIterator[ServerSentEvent]:
        """The body as server-sent events."""
        return _Events(self)

    async def next_piece(self) -> bytes | None:
        """The next piece of the body; None at its end."""
        if self._stream is None:
            self._stream = self._response.stream()
        piece = await self._secrets.guarded(anext(self._stream, None), self.name)
        if piece is not None:
            self._size += len(piece)
            if self._size > self._limit:
                raise APIResponseError(f"{self.name}: an answer of more than {self._limit} bytes", request=self.name)
        return piece

    async def read(self) -> bytes:
        """The rest of the body."""
        return await self._secrets.guarded(self._response.read(self._limit), self.name)

    async def aclose(self) -> None:
        """Give up the rest of the body."""
        if self._stream is not None:
            await self._stream.aclose()
        await self._response.aclose()

    def __repr__(self) -> str:
        return f"<StreamedReply {self.status} to {self.name}>"


# No generators: one that is left half-way would wait for the garbage collector to end it.
@final
class _Pieces(AsyncIterator[bytes]):
    def __init__(self, reply: StreamedReply) -> None:
        self._reply = reply

    async def __anext__(self) -> bytes:
        piece = await self._reply.next_piece()
        if piece is None:
            raise StopAsyncIteration
        return piece


@final
class _Events(AsyncIterator[ServerSentEvent]):
    def __init__(self, reply: StreamedReply) -> None:
        self._reply = reply
        self._decoder = SSEDecoder()
        self._ready: deque[ServerSentEvent] = deque()

    async def __anext__(self) -> ServerSentEvent:
        while not self._ready:
            piece = await self._reply.next_piece()
            if piece is None:
                raise StopAsyncIteration
            try:
                self._ready.extend(self._decoder.feed(piece))
            except DecodeError as error:
                name = self._reply.name
                raise APIResponseError(f"{name}: {error}", request=name) from None
        return self._ready.popleft()
