"""An in-memory network: it carries requests to an ASGI application, in the server's own tasks.

The application runs in a task of the network's nursery, so a client that gives up does not cancel the server's
work: its reply is simply lost. Latency is drawn from an injected random and waited out on trio's clock, so a seed
and a MockClock reproduce every run. There is no socket and no thread.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, TypeAlias, final
from urllib.parse import unquote, urlsplit

import msgspec
import trio
from msgspec import structs

from tinker_actors.errors import APIConnectionError, APIResponseError, APITimeoutError
from tinker_actors.ports import Request, Response, Transport

__all__ = ["Application", "MemoryTransport", "Network", "NetworkStatistics", "open_network"]

Message: TypeAlias = MutableMapping[str, Any]
"""An event of the ASGI specification, version 3."""
Application: TypeAlias = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
"""An ASGI 3 application: ``await application(scope, receive, send)``."""

_BUFFERED_PIECES = 16  # of a body on its way; the application's ``send`` waits when they are not read


class NetworkStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one network.

    ``requests`` that clients began; ``delivered`` to the application; ``answered`` in full; ``abandoned`` by their
    client before the end of the reply; ``open`` are being worked on by the application now.
    """

    requests: int
    delivered: int
    answered: int
    abandoned: int
    open: int


class _Head(msgspec.Struct, frozen=True):
    status: int
    headers: tuple[tuple[str, str], ...]


class _Piece(msgspec.Struct, frozen=True):
    arrives: float
    content: _Head | bytes | None  # None ends the body


@final
class Network:
    """Between clients and one server. Made by ``open_network``."""

    def __init__(
        self, application: Application, nursery: trio.Nursery, rng: random.Random, latency: tuple[float, float]
    ) -> None:
        self._application: Application | None = application
        self._nursery = nursery
        self._random = rng
        self._latency = latency
        self._whole = trio.Event()
        self._whole.set()
        self._exchanges: set[_Exchange] = set()
        self._requests = self._delivered = self._answered = self._abandoned = 0
        self.failures: list[Exception] = []
        """What the application raised; ``open_network`` raises it at its end, unless the list was cleared."""

    def transport(self) -> MemoryTransport:
        """A client's end. Any number of clients may share the network."""
        return MemoryTransport(self)

    def partition(self) -> None:
        """From now on nothing passes, in either direction; clients see timeouts. Nothing is lost: see ``heal``."""
        if self._whole.is_set():
            self._whole = trio.Event()

    def heal(self) -> None:
        """What was held back passes, as TCP repeats it, unless its client has given up meanwhile."""
        self._whole.set()

    def kill(self) -> None:
        """The server dies at once: its work is cancelled, connections are reset, new ones are refused."""
        self._application = None
        for exchange in tuple(self._exchanges):
            exchange.kill()

    def replace(self, application: Application) -> None:
        """A server (re)starts as ``application``; one that still runs is killed first."""
        self.kill()
        self._application = application

    def statistics(self) -> NetworkStatistics:
        """Counts so far."""
        return NetworkStatistics(
            requests=self._requests,
            delivered=self._delivered,
            answered=self._answered,
            abandoned=self._abandoned,
            open=len(self._exchanges),
        )

    async def carry(self, request: Request) -> Response:
        """One exchange, up to the head of its response; see the Transport port."""
        self._requests += 1
        name = _name(request)
        deadline = trio.current_time() + request.timeout
        exchange: _Exchange | None = None
        try:
            with trio.move_on_at(deadline):
                await self.pass_through(self.lag())
                application = self._application
                if application is None:
                    raise APIConnectionError("connection refused: no server", request=name, sent=False)
                if request.stream is not None:
                    async with aclosing(request.stream.pieces()) as pieces:
                        body = tuple([piece async for piece in pieces])
                    request = structs.replace(request, stream=None, body=body)
                exchange = _Exchange(self, request, name, deadline)
                self._delivered += 1
                self._nursery.start_soon(exchange.serve, application, name=f"server {name}")
                return await exchange.response()
        except BaseException:
            self._abandon(exchange)
            raise
        self._abandon(exchange)
        raise APITimeoutError(f"no answer within {request.timeout:g} s", request=name, sent=exchange is not None)

    def _abandon(self, exchange: _Exchange | None) -> None:
        if exchange is not None:
            exchange.give_up()

    async def pass_through(self, arrives: float) -> None:
        """Wait until what arrives at ``arrives`` is there, partitions included."""
        await trio.sleep_until(arrives)
        while not self._whole.is_set():
            await self._whole.wait()

    def lag(self) -> float:
        """When what is sent now arrives."""
        return trio.current_time() + self._random.uniform(*self._latency)

    def opened(self, exchange: _Exchange) -> None:
        """For the exchanges: the application begins."""
        self._exchanges.add(exchange)

    def ended(self, exchange: _Exchange) -> None:
        """For the exchanges: the application is through."""
        self._exchanges.discard(exchange)

    def settled(self, *, answered: bool) -> None:
        """For the exchanges: the client has read everything, or given up."""
        if answered:
            self._answered += 1
        else:
            self._abandoned += 1


@final
class _Exchange:
    """One request at the server, and its reply on the way back; also the Response that the client reads."""

    def __init__(self, network: Network, request: Request, name: str, deadline: float) -> None:
        self._network = network
        self._request = request
        self._name = name
        self._deadline = deadline
        self._scope = trio.CancelScope()
        self._gone = trio.Event()  # the client has read all, or given up
        self._to_client, self._from_server = trio.open_memory_channel[_Piece](_BUFFERED_PIECES)
        self._body_taken = False
        self._started = False
        self._head: _Head | None = None
        self._headers: Mapping[str, str] = {}
        network.opened(self)

    # the server's side

    async def serve(self, application: Application) -> None:
        """Run the application on this request. What it raises is kept and answered with 500."""
        try:
            with self._scope:
                try:
                    await application(_scope(self._request), self._receive, self._send)
                except Exception as error:  # noqa: BLE001  # kept: open_network raises it
                    self._network.failures.append(error)
                    if not self._started:
                        await self._put(_Head(500, (("content-type", "text/plain"),)))
                        await self._put(b"Internal Server Error")
                        await self._put(None)
        finally:
            self._to_client.close()
            self._network.ended(self)

    def kill(self) -> None:
        """The server process is gone."""
        self._scope.cancel(reason="the server was killed")
        self._to_client.close()
        self._network.ended(self)

    async def _receive(self) -> Message:
        if not self._body_taken:
            await trio.lowlevel.checkpoint()
            self._body_taken = True
            return {"type": "http.request", "body": b"".join(self._request.body), "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start":
                self._started = True
                headers = tuple(
                    (bytes(name).decode("latin-1").lower(), bytes(value).decode("latin-1"))
                    for name, value in message.get("headers", ())
                )
                await self._put(_Head(int(message["status"]), headers))
            case "http.response.body":
                body = bytes(message.get("body", b""))
                if body:
                    await self._put(body)
                if not message.get("more_body", False):
                    await self._put(None)
            case other:
                raise ValueError(f"the application sent {other!r}, which is not an HTTP event of ASGI 3")

    async def _put(self, content: _Head | bytes | None) -> None:
        # a client that has given up reads nothing; an ASGI server does not tell its application so here
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._to_client.send(_Piece(self._network.lag(), content))

    # the client's side

    async def response(self) -> Response:
        """Wait for the head; self is the response then."""
        content = await self._next()
        assert isinstance(content, _Head), "an application starts with http.response.start"
        self._head = content
        self._headers = dict(content.headers)
        return self

    def give_up(self) -> None:
        """The client reads no more. The application works on and may learn of it through ``receive``."""
        if not self._gone.is_set():
            self._gone.set()
            self._from_server.close()
            self._network.settled(answered=False)

    @property
    def status(self) -> int:
        """The HTTP status."""
        assert self._head is not None
        return self._head.status

    @property
    def headers(self) -> Mapping[str, str]:
        """Header values under lower-case names."""
        return self._headers

    async def stream(self) -> AsyncIterator[bytes]:
        """The body, piece by piece as it arrives, within the request's timeout."""
        try:
            while (piece := await self._next_of_body()) is not None:
                yield piece
        finally:
            self.give_up()

    async def read(self, limit: int) -> bytes:
        """The whole body; APIResponseError when it is longer than ``limit`` bytes."""
        pieces: list[bytes] = []
        size = 0
        try:
            while (piece := await self._next_of_body()) is not None:
                size += len(piece)
                if size > limit:
                    raise APIResponseError(f"an answer of more than {limit} bytes", request=self._name)
                pieces.append(piece)
        finally:
            self.give_up()
        return b"".join(pieces)

    async def aclose(self) -> None:
        """Give up the rest of the body."""
        self.give_up()
        await trio.lowlevel.checkpoint()

    async def _next_of_body(self) -> bytes | None:
        if self._gone.is_set():
            return None
        content: _Head | bytes | None = None
        with trio.move_on_at(self._deadline) as scope:
            content = await self._next()
        if scope.cancelled_caught:
            raise APITimeoutError(
                f"the answer was not complete within {self._request.timeout:g} s", request=self._name
            )
        if content is None:
            self._gone.set()
            self._from_server.close()
            self._network.settled(answered=True)
            return None
        assert isinstance(content, bytes)
        return content

    async def _next(self) -> _Head | bytes | None:
        try:
            piece = await self._from_server.receive()
        except trio.EndOfChannel:
            await self._network.pass_through(trio.current_time())
            raise APIConnectionError("connection reset by the server", request=self._name) from None
        await self._network.pass_through(piece.arrives)
        return piece.content


@final
class MemoryTransport(Transport):
    """A client's end of a ``Network``."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._closed = False

    async def send(self, request: Request) -> Response:
        """Send ``request`` and return when the head of its response is there."""
        if self._closed:
            raise APIConnectionError("this transport was closed", request=_name(request), sent=False)
        return await self._network.carry(request)

    async def aclose(self) -> None:
        """Send no more. Exchanges under way end by themselves."""
        self._closed = True
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_network(
    application: Application, *, random: random.Random, latency: tuple[float, float] = (0.001, 0.01)
) -> AsyncGenerator[Network]:
    """A network in front of ``application``.

    ``latency`` is the least and the greatest time in seconds for one way. Leaving the block cancels what the
    application still does. Raises an ExceptionGroup of whatever the application raised (``Network.failures``).
    """
    async with trio.open_nursery() as nursery:
        network = Network(application, nursery, random, latency)
        yield network
        nursery.cancel_scope.cancel(reason="the network is closed")
    if network.failures:
        raise ExceptionGroup("the application behind the network failed", network.failures)


def _name(request: Request) -> str:
    return f"{request.method} {urlsplit(request.url).path}"


def _scope(request: Request) -> Message:
    parts = urlsplit(request.url)
    host = parts.hostname or "server"
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
    if not any(name == b"host" for name, _ in headers):
        headers.insert(0, (b"host", parts.netloc.encode("latin-1")))
    length = sum(memoryview(part).nbytes for part in request.body)
    if request.body and not any(name == b"content-length" for name, _ in headers):
        headers.append((b"content-length", str(length).encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": parts.scheme,
        "path": unquote(parts.path),
        "raw_path": parts.path.encode("ascii"),
        "query_string": parts.query.encode("ascii"),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": (host, parts.port or (443 if parts.scheme == "https" else 80)),
    }
