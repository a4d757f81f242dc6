"""HTTP/1.1 on a listening socket: Hypercorn's protocol, each connection on its own.

Hypercorn's own worker has all connections in one nursery, so that an exception in one of them (a broken WebSocket
handshake is enough) ends the server and every model in it; it keeps the sockets of clients that have gone until the
keep-alive time is over, and under HTTP/2 for ever.
"""

from __future__ import annotations

import logging
import math
import socket
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any, Final, cast, final

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H2CProtocolRequiredError, H2ProtocolAssumedError, H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

__all__ = ["ABORT", "serve_connections"]

ABORT: Final = "tinker_actors.abort"
"""In a scope's extensions: ``abort(reset=...)`` breaks the request's connection off, as a fault of a network does."""

_log = logging.getLogger("tinker_actors.local")
_READ = 1 << 16


async def serve_connections(
    app: object, config: Config, listener: trio.SocketListener, stop: trio.Event, *, grace: float
) -> None:
    """Serve the ASGI 3 application ``app`` until ``stop`` is set.

    Then idle connections are closed at once, and requests under way have ``grace`` seconds to end. What goes wrong in
    one connection closes that one, and is logged.
    """
    context = WorkerContext(None)
    wrapped = ASGIWrapper(cast("Any", app))
    there: set[_Connection] = set()

    async def serve_one(stream: trio.SocketStream) -> None:
        try:
            async with stream, TaskGroup() as tasks:
                connection = _Connection(stream, config, context)
                there.add(connection)
                try:
                    await connection.run(wrapped, tasks)
                finally:
                    there.remove(connection)
        except* (OSError, trio.BrokenResourceError):
            pass  # the client has gone
        except* (H2CProtocolRequiredError, H2ProtocolAssumedError):
            pass  # HTTP/2 is not spoken here
        except* Exception as broken:  # noqa: BLE001  # whatever a stranger's bytes did to Hypercorn
            _log.warning("a connection was given up: %s", "; ".join(map(repr, _leaves(broken))))

    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(partial(trio.serve_listeners, serve_one, [listener], handler_nursery=connections))
            await stop.wait()
            accepting.cancel_scope.cancel(reason="the server is about to end")
        await context.terminated.set()
        for connection in there:
            connection.end_if_idle()
        connections.cancel_scope.deadline = trio.current_time() + grace


@final
class _Connection:
    """Carries bytes between one socket and Hypercorn's protocol, until either side has enough."""

    def __init__(self, stream: trio.SocketStream, config: Config, context: WorkerContext) -> None:
        self._stream = stream
        self._config = config
        self._context = context
        self._idle = True
        self._aborted = False
        self._reading = trio.CancelScope()
        self._sending = trio.Lock()

    async def run(self, app: ASGIWrapper, tasks: TaskGroup) -> None:
        """Until the connection has ended; the application may still be at work in ``tasks`` then."""
        client, server = self._stream.socket.getpeername()[:2], self._stream.socket.getsockname()[:2]
        http = H11Protocol(
            self._breakable(app),
            self._config,
            self._context,
            tasks,
            ConnectionState({}),
            False,
            client,
            server,
            self._take,
        )
        self._rest()
        with self._reading:
            while data := await self._stream.receive_some(_READ):
                await http.handle(RawData(bytes(data)))
            await http.handle(RawData(b""))
        await http.handle(Closed())

    def abort(self, *, reset: bool) -> None:
        """Send nothing more and close; with ``reset`` the client sees a reset, and not an end."""
        self._aborted = True
        if reset:
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._reading.cancel(reason="the connection was broken off")

    def _breakable(self, app: ASGIWrapper) -> Any:
        async def call(scope: Any, *more: Any) -> None:
            scope.setdefault("extensions", {})[ABORT] = self.abort
            await app(scope, *more)

        return call

    def end_if_idle(self) -> None:
        """End unless there is a request under way."""
        if self._idle:
            self._reading.cancel(reason="the server is about to end")

    async def _take(self, event: Event) -> None:
        match event:
            case RawData() if self._aborted:
                await trio.lowlevel.checkpoint()
            case RawData():
                try:
                    async with self._sending:
                        await self._stream.send_all(event.data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self._reading.cancel(reason="the client has gone")
            case Closed():
                self._reading.cancel(reason="the protocol is done")
            case Updated(idle=True):
                self._rest()
            case _:
                self._idle = False
                self._reading.deadline = math.inf

    def _rest(self) -> None:
        self._idle = True
        self._reading.deadline = trio.current_time() + self._config.keep_alive_timeout
        if self._context.terminated.is_set():
            self.end_if_idle()


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(cast("BaseExceptionGroup[Any]", error))
        else:
            yield error
