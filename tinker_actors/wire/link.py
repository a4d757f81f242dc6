"""Links: open sockets, plain or under TLS. Buffers are sent as they are, without being joined into one copy."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Sequence
from typing import Protocol, final

import trio

__all__ = ["Link", "LinkBroken", "open_link"]

Buffer = bytes | memoryview

_SMALL = 1 << 12  # below this, a copy costs less than another buffer in the system call
_TLS_SMALL = 1 << 16  # the same, for another TLS record
_BUFFERS_AT_ONCE = 512  # IOV_MAX is 1024
_TLS_AT_ONCE = 1 << 18


class LinkBroken(Exception):
    """The link can't be opened, or carries nothing any more; the text says why."""


class Link(Protocol):
    """An open connection to one host."""

    @property
    def wrote(self) -> bool:
        """False when it is certain that nothing of the last ``send`` has left."""
        ...

    @property
    def stale(self) -> bool:
        """True when something has arrived unasked: the end, or what a server says before it closes."""
        ...

    async def send(self, buffers: Sequence[Buffer]) -> None:
        """Send everything, or raise LinkBroken."""
        ...

    async def receive(self, most: int) -> bytes:
        """What has arrived, at least one byte; b"" at the end. Raises LinkBroken."""
        ...

    def close(self) -> None:
        """Close at once. Whoever waits in ``send`` or ``receive`` gets LinkBroken."""
        ...


@final
class PlainLink(Link):
    """TCP."""

    def __init__(self, socket: trio.socket.SocketType) -> None:
        self._socket = socket
        self._wrote = False

    @property
    def wrote(self) -> bool:
        return self._wrote

    @property
    def stale(self) -> bool:
        return self._socket.is_readable()

    async def send(self, buffers: Sequence[Buffer]) -> None:
        self._wrote = False
        pending = _gathered(buffers, _SMALL)
        index = 0
        try:
            while index < len(pending):
                sent = await self._socket.sendmsg(pending[index : index + _BUFFERS_AT_ONCE])
                self._wrote = True
                while index < len(pending) and sent >= len(pending[index]):
                    sent -= len(pending[index])
                    index += 1
                if sent:
                    pending[index] = memoryview(pending[index])[sent:]
        except (OSError, trio.ClosedResourceError) as error:
            raise LinkBroken(_reason(error)) from error

    async def receive(self, most: int) -> bytes:
        try:
            return await self._socket.recv(most)
        except (OSError, trio.ClosedResourceError) as error:
            raise LinkBroken(_reason(error)) from error

    def close(self) -> None:
        self._socket.close()


@final
class TlsLink(Link):
    """TLS over TCP."""

    def __init__(self, socket: trio.socket.SocketType, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._socket = socket
        self._stream = stream
        self._wrote = False

    @property
    def wrote(self) -> bool:
        return self._wrote

    @property
    def stale(self) -> bool:
        return self._socket.is_readable()

    async def send(self, buffers: Sequence[Buffer]) -> None:
        self._wrote = True  # the stream does not tell how far it came
        try:
            for buffer in _gathered(buffers, _TLS_SMALL):
                for at in range(0, len(buffer), _TLS_AT_ONCE):
                    await self._stream.send_all(memoryview(buffer)[at : at + _TLS_AT_ONCE])
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkBroken(_reason(error)) from error

    async def receive(self, most: int) -> bytes:
        try:
            return bytes(await self._stream.receive_some(most))
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkBroken(_reason(error)) from error

    def close(self) -> None:
        # without TLS's goodbye: HTTP has its own ends of messages
        self._socket.close()


async def open_link(host: str, port: int, context: ssl.SSLContext | None) -> Link:
    """Connect to ``host``; with a ``context`` under TLS. Raises LinkBroken."""
    try:
        socket = await _connect(host, port)
    except OSError as error:
        raise LinkBroken(f"can't connect to {host}:{port}: {_reason(error)}") from error
    except UnicodeError as error:  # labels that are empty or too long for any name
        raise LinkBroken(f"can't connect to {host}:{port}: no host has such a name") from error
    try:
        socket.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, True)
        if context is None:
            return PlainLink(socket)
        stream = trio.SSLStream(trio.SocketStream(socket), context, server_hostname=host, https_compatible=True)
        await stream.do_handshake()
    except (OSError, trio.BrokenResourceError) as error:
        socket.close()
        raise LinkBroken(f"no TLS connection to {host}:{port}: {_reason(error)}") from error
    except BaseException:
        socket.close()
        raise
    return TlsLink(socket, stream)


async def _connect(host: str, port: int) -> trio.socket.SocketType:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return (await trio.open_tcp_stream(host, port)).socket
    socket = trio.socket.socket(trio.socket.AF_INET6 if address.version == 6 else trio.socket.AF_INET)
    try:
        await socket.connect((host, port))
    except BaseException:
        socket.close()
        raise
    return socket


def _gathered(buffers: Sequence[Buffer], small: int) -> list[Buffer]:
    """``buffers`` with neighbours of at most ``small`` bytes joined; larger ones stay as they are."""
    out: list[Buffer] = []
    run: list[Buffer] = []
    size = 0
    for buffer in buffers:
        view = buffer if isinstance(buffer, bytes) or buffer.format == "B" else buffer.cast("B")
        length = len(view)
        if length <= small:
            run.append(view)
            size += length
            if size < small:
                continue
        if run:
            out.append(b"".join(run))
            run, size = [], 0
        if length > small:
            out.append(view)
    if run:
        out.append(b"".join(run))
    return [buffer for buffer in out if len(buffer)]


def _reason(error: BaseException) -> str:
    if isinstance(error, trio.ClosedResourceError):
        return "closed by this client"
    cause = error.__cause__
    if isinstance(error, trio.BrokenResourceError) and cause is not None:
        return _reason(cause)
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)  # trio's own text repeats the address
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
