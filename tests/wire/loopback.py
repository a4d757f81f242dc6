"""A real HTTP server on loopback whose connections each test scripts byte by byte."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import final

import h11
import msgspec
import trio

__all__ = ["Loopback", "Peer", "Received", "loopback", "open_files", "serve_forever"]

CERTIFICATE = Path(__file__).with_name("localhost.pem")  # for localhost, self-signed, good for a hundred years


class Received(msgspec.Struct, frozen=True):
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@final
class Peer:
    """One connection, seen from the server."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream], server: Loopback) -> None:
        self.stream = stream
        self._server = server
        self._http = h11.Connection(h11.SERVER)

    async def head(self) -> h11.Request | None:
        """The head of the next request; None when the client has closed."""
        event = await self._next()
        return event if isinstance(event, h11.Request) else None

    async def request(self) -> Received | None:
        """The next request; None when the client has closed."""
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        head = await self.head()
        if head is None:
            return None
        body = bytearray()
        while isinstance(event := await self._next(), h11.Data):
            body += event.data
        if not isinstance(event, h11.EndOfMessage):
            return None
        headers = {name.decode(): value.decode() for name, value in head.headers}
        received = Received(head.method.decode(), head.target.decode(), headers, bytes(body))
        self._server.requests.append(received)
        self._server.count(0)
        return received

    async def reply(self, status: int = 200, body: bytes = b"{}", **headers: str) -> None:
        """A whole reply with its length; underscores in header names stand for hyphens."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        fields = {"content-length": str(len(body)), "content-type": "application/json"} | names
        out = self._http.send(h11.Response(status_code=status, headers=list(fields.items()))) or b""
        out += self._http.send(h11.Data(data=body)) or b""
        await self.stream.send_all(out + (self._http.send(h11.EndOfMessage()) or b""))

    async def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        await self.stream.send_all(data)

    async def closed(self) -> bool:
        """Wait until the client has closed."""
        try:
            while await self.stream.receive_some(1 << 16):
                pass
        except trio.BrokenResourceError:
            pass
        self._server.client_closed += 1
        return True

    async def _next(self) -> object:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            try:
                self._http.receive_data(await self.stream.receive_some(1 << 16))
            except trio.BrokenResourceError:
                return None


@final
class Loopback:
    """The server: where it listens, and what it has seen."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.requests: list[Received] = []
        self.connections = 0
        self.open = 0
        self.client_closed = 0
        self.changed = trio.Event()

    async def all_closed(self) -> None:
        """Wait until no connection is open any more."""
        with trio.fail_after(10):
            while self.open:
                await self.changed.wait()

    def count(self, change: int) -> None:
        """For the server itself."""
        self.open += change
        self.connections += change > 0
        self.changed.set()
        self.changed = trio.Event()


async def serve_forever(peer: Peer) -> None:
    """Answer every request of a connection with {}."""
    while await peer.request() is not None:
        await peer.reply()


@asynccontextmanager
async def loopback(
    handler: Callable[[Peer], Awaitable[None]] = serve_forever, *, tls: bool = False, certificate: Path = CERTIFICATE
) -> AsyncGenerator[Loopback]:
    """Serve each connection with ``handler``; where it returns, the connection is closed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if tls:
        context.load_cert_chain(certificate)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=4096)
    server = Loopback(listener.socket.getsockname()[1], "https" if tls else "http")

    async def serve(socket: trio.SocketStream) -> None:
        server.count(1)
        stream = trio.SSLStream(socket, context, server_side=True, https_compatible=True) if tls else socket
        try:
            if isinstance(stream, trio.SSLStream):
                await stream.do_handshake()
            await handler(Peer(stream, server))
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            pass
        finally:
            await trio.aclose_forcefully(socket)
            server.count(-1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield server
        nursery.cancel_scope.cancel(reason="the test is over")


def open_files() -> int:
    """Open file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208
