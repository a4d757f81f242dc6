"""Exchanges with a loopback server through a transport that must leave nothing open."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from tests.wire.loopback import CERTIFICATE, Loopback
from tinker_actors.ports import Purpose, Request
from tinker_actors.wire.transport import HttpTransport

__all__ = ["LIMIT", "OK", "exchange", "opened", "post", "trusting"]

LIMIT = 1 << 26
OK = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def opened(transport: HttpTransport | None = None) -> AsyncGenerator[HttpTransport]:
    transport = transport or HttpTransport()
    try:
        yield transport
    finally:
        with trio.CancelScope(shield=True):
            await transport.aclose()
        assert transport.connections == 0


def post(
    server: Loopback,
    *body: bytes | memoryview,
    path: str = "/api/v1/asample",
    timeout: float = 10.0,
    purpose: Purpose = "sample",
) -> Request:
    return Request(
        method="POST",
        url=server.url + path,
        headers=(("x-key", "k"), ("content-type", "application/json")),
        body=body,
        timeout=timeout,
        purpose=purpose,
    )


async def exchange(transport: HttpTransport, request: Request) -> bytes:
    response = await transport.send(request)
    assert response.status == 200
    return await response.read(LIMIT)


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=CERTIFICATE)
