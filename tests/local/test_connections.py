"""One connection's end, however it comes, is nobody else's. Real sockets on loopback."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tinker_actors.local.connections import serve_connections

# it breaks Hypercorn's state only when its two answers to it come in one of their two orders
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
BROKEN_WEBSOCKET = (
    b"GET / HTTP/1.1\r\nHost: a\r\n" + UPGRADE + b"Sec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x85aaaahello"
)
HTTP_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
HTTP_2_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
)
HEALTHY = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Server:
    def __init__(self, port: int) -> None:
        self.port = port
        self.stop = trio.Event()
        self.stopped = trio.Event()
        self.entered = trio.Event()
        self.release = trio.Event()

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def serves(self) -> bool:
        async with await self.connect() as stream:
            await stream.send_all(HEALTHY)
            return (await _answer(stream)).startswith(b"HTTP/1.1 200")


@asynccontextmanager
async def running(*, grace: float = 0.2, keep_alive: float = 60.0) -> AsyncGenerator[Server]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = Server(listener.socket.getsockname()[1])

    async def quick(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    async def slow(_: Request) -> PlainTextResponse:
        server.entered.set()
        await server.release.wait()
        return PlainTextResponse("late")

    async def serve() -> None:
        config = Config()
        config.keep_alive_timeout = keep_alive
        await serve_connections(app, config, listener, server.stop, grace=grace)
        server.stopped.set()

    app = Starlette(routes=[Route("/", quick, methods=["GET", "POST"]), Route("/slow", slow)])
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield server
            server.stop.set()


async def _answer(stream: trio.SocketStream) -> bytes:
    """Up to the end of the only body that is served here."""
    answer = b""
    while not answer.endswith((b"\r\n\r\n0", b"\r\n\r\nlate")):
        piece = await stream.receive_some()
        if not piece:
            break
        answer += piece
    return answer


async def _end(stream: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError):  # closed without having read everything
        while await stream.receive_some():
            pass


@pytest.mark.parametrize("bytes_", [BROKEN_WEBSOCKET, HTTP_2, HTTP_2_UPGRADE, b"\x16\x03\x01 no HTTP\r\n\r\n"])
async def test_a_connection_that_breaks_the_rules_ends_alone(bytes_: bytes, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.CRITICAL, "hypercorn.error")
    async with running() as server, await server.connect() as healthy:
        for _ in range(10):
            async with await server.connect() as stream:
                await stream.send_all(bytes_)
                await stream.send_eof()
                await _end(stream)
        await healthy.send_all(HEALTHY)
        assert (await _answer(healthy)).startswith(b"HTTP/1.1 200")
        assert await server.serves()


async def test_what_broke_a_connection_is_logged(caplog: pytest.LogCaptureFixture):
    async with running() as server:
        while not any("a connection was given up: LocalProtocolError" in message for message in caplog.messages):
            async with await server.connect() as stream:
                await stream.send_all(BROKEN_WEBSOCKET)
                await stream.send_eof()
                await _end(stream)


async def test_a_client_that_has_gone_is_let_go_at_once():
    async with running() as server, await server.connect() as stream:
        await stream.send_all(HEALTHY)
        await _answer(stream)
        await stream.send_eof()
        with trio.fail_after(3):
            assert not await stream.receive_some()


async def test_an_idle_connection_ends_after_the_keep_alive_and_with_the_server():
    async with running(keep_alive=0.5) as server, await server.connect() as silent:
        began = trio.current_time()
        assert not await silent.receive_some()
        assert 0.4 < trio.current_time() - began < 3.0
    async with running(grace=60.0) as server, await server.connect() as idle:
        await idle.send_all(HEALTHY)
        await _answer(idle)
        server.stop.set()
        with trio.fail_after(3):
            assert not await idle.receive_some()
            await server.stopped.wait()


async def test_a_request_under_way_has_its_grace():
    async with running(grace=3.0) as server, await server.connect() as patient:
        await patient.send_all(HEALTHY.replace(b"/ ", b"/slow ", 1))
        await server.entered.wait()
        server.stop.set()
        await trio.testing.wait_all_tasks_blocked(0.05)
        server.release.set()
        assert (await _answer(patient)).endswith(b"late")
        with trio.fail_after(2):
            await server.stopped.wait()


async def test_a_request_that_outlasts_its_grace_is_cut_off():
    async with running(grace=0.2) as server, await server.connect() as stream:
        await stream.send_all(HEALTHY.replace(b"/ ", b"/slow ", 1))
        await server.entered.wait()
        server.stop.set()
        with trio.fail_after(3):
            assert not await stream.receive_some()
            await server.stopped.wait()
