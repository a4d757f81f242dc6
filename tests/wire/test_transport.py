"""HttpTransport over real sockets: what arrives, and which connections are kept."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tests.wire.exchanges import OK, exchange, opened, post, trusting
from tests.wire.loopback import Peer, loopback
from tinker_actors.errors import APIConnectionError
from tinker_actors.ports import Request
from tinker_actors.wire.transport import HttpTransport

FAREWELL = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


# what arrives


async def test_a_request_arrives_as_it_was_and_so_does_its_reply():
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.reply(201, b"made", X_Thing="a", set_cookie="b")
        await peer.request()

    async with loopback(handler) as server, opened() as transport:
        target = "/base/api/v1/x?limit=1&a=%20"
        response = await transport.send(post(server, b"ab", memoryview(b"cd"), b"", path=target))
        assert (response.status, response.headers["x-thing"]) == (201, "a")
        assert await response.read(4) == b"made"
        assert await response.read(4) == b""
        (request,) = server.requests
        assert (request.method, request.target) == ("POST", target)
        assert request.body == b"abcd"
        assert request.headers["host"] == f"127.0.0.1:{server.port}"
        assert request.headers["content-length"] == "4"
        assert request.headers["x-key"] == "k"


async def test_a_get_has_no_body_and_an_empty_post_says_so():
    async with loopback() as server, opened() as transport:
        get = Request(method="GET", url=f"{server.url}/healthz")
        assert await exchange(transport, get) == b"{}"
        assert await exchange(transport, post(server)) == b"{}"
        assert "content-length" not in server.requests[0].headers
        assert server.requests[1].headers["content-length"] == "0"


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("seed", range(5))
async def test_buffers_of_any_size_arrive_in_order(seed: int, tls: bool):
    rng = random.Random(seed)
    sizes = [rng.choice([0, 1, 100, 4095, 4096, 4097, 70_000, 300_000]) for _ in range(rng.randrange(1, 700, 69))]
    pieces = [rng.randbytes(size) for size in sizes]
    numbers = np.arange(1000, dtype=np.int64)
    body = [*(memoryview(p) if rng.random() < 0.5 else p for p in pieces), memoryview(numbers)]
    async with loopback(tls=tls) as server, opened(HttpTransport(ssl_context=trusting())) as transport:
        assert await exchange(transport, post(server, *body)) == b"{}"
        assert server.requests[0].body == b"".join([*pieces, numbers.tobytes()])


async def test_a_large_body_is_not_copied():
    from tinker_actors.wire.link import _gathered

    arrays = [np.zeros(size, np.uint8) for size in (10, 5000, 20, 30, 1_000_000)]
    parts = _gathered([memoryview(array) for array in arrays], 4096)
    assert [len(part) for part in parts] == [10, 5000, 50, 1_000_000]
    for part, array in ((parts[1], arrays[1]), (parts[3], arrays[4])):
        assert np.shares_memory(np.frombuffer(part, np.uint8), array)


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n"
            + OK
            + b"content-length: 1\r\n\r\na",
            b"a",
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b""),
    ],
)
async def test_every_framing_of_a_body_is_read(reply: bytes, body: bytes):
    async def handler(peer: Peer) -> None:
        await peer.request()
        for at in range(len(reply)):  # byte by byte
            await peer.raw(reply[at : at + 1])

    async with loopback(handler) as server, opened() as transport:
        response = await transport.send(post(server))
        assert b"".join([piece async for piece in response.stream()]) == body


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("size", [(128 << 10) - 1, 128 << 10, 3_000_001])
async def test_a_large_body_is_whole_and_its_connection_used_again(size: int, tls: bool):
    content = random.Random(size).randbytes(size)

    async def handler(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.reply(200, content)

    async with loopback(handler, tls=tls) as server, opened(HttpTransport(ssl_context=trusting())) as transport:
        for _ in range(3):
            assert await exchange(transport, post(server)) == content
        response = await transport.send(post(server))
        assert b"".join([piece async for piece in response.stream()]) == content
        assert server.connections == 1


@pytest.mark.parametrize(
    ("extra", "missing"),
    [(b"", 1), (b"connection: close\r\n", 0), (b"", 0), (b"", -5)],
    ids=["cut", "close", "kept", "more"],
)
async def test_a_large_body_that_is_cut_or_the_last_or_too_long(extra: bytes, missing: int):
    size = 200_000

    async def handler(peer: Peer) -> None:
        await peer.request()
        # in one piece, so that what is too much arrives with the rest
        await peer.raw(OK + extra + b"content-length: %d\r\n\r\n" % size + bytes(size - missing))
        if missing <= 0:
            await peer.closed()

    async with loopback(handler) as server, opened() as transport:
        if missing > 0:
            with pytest.raises(APIConnectionError, match="before the end of its reply"):
                await exchange(transport, post(server))
        else:
            assert await exchange(transport, post(server)) == bytes(size)
        assert transport.connections == (1 if not extra and missing <= 0 else 0)
        if missing < 0:
            assert await exchange(transport, post(server)) == bytes(size)
            assert server.connections == 2


async def test_a_head_request_has_no_body_whatever_its_length_says():
    async def handler(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.reply(200, b"", content_length="500000")

    async with loopback(handler) as server, opened() as transport:
        for _ in range(2):
            assert await exchange(transport, Request(method="HEAD", url=server.url, timeout=5)) == b""


async def test_headers_that_repeat_are_joined():
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.raw(b"HTTP/1.1 204 OK\r\nA: 1\r\na: 2\r\n\r\n")

    async with loopback(handler) as server, opened() as transport:
        response = await transport.send(post(server))
        assert response.headers["a"] == "1, 2"
        assert await response.read(0) == b""


# keep-alive


async def test_a_connection_is_used_again_and_each_purpose_has_its_own():
    async with loopback() as server, opened() as transport:
        for _ in range(10):
            await exchange(transport, post(server))
        assert server.connections == 1
        for _ in range(3):
            await exchange(transport, post(server, purpose="poll"))
        assert server.connections == 2


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}and more than it said",
    ],
)
async def test_a_connection_that_can_not_be_used_again_is_not(reply: bytes):
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.raw(reply)
        await peer.closed()

    async with loopback(handler) as server, opened() as transport:
        for _ in range(3):
            assert await exchange(transport, post(server)) == b"{}"
        assert server.connections == 3
        await server.all_closed()
        assert transport.connections == 0


@pytest.mark.parametrize("farewell", [b"", FAREWELL])
@pytest.mark.parametrize("tls", [False, True])
async def test_a_connection_that_was_closed_before_the_write_loses_no_request(farewell: bytes, tls: bool):
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.reply()
        if farewell:
            await peer.raw(farewell)

    async with loopback(handler, tls=tls) as server, opened(HttpTransport(ssl_context=trusting())) as transport:
        for number in range(1, 31):
            assert await exchange(transport, post(server, str(number).encode())) == b"{}"
            await server.all_closed()
            assert server.connections == number
        assert [request.body for request in server.requests] == [str(n).encode() for n in range(1, 31)]


async def test_a_server_that_dies_over_a_request_is_told_from_one_that_never_saw_it():
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.reply()
        await peer.request()

    async with loopback(handler) as server, opened() as transport:
        await exchange(transport, post(server))
        with pytest.raises(APIConnectionError) as caught:
            await exchange(transport, post(server))
        assert caught.value.sent
        assert len(server.requests) == 2


async def test_idle_connections_are_kept_as_long_as_the_server_says_and_no_longer():
    async def hasty(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.reply(keep_alive="timeout=1, max=100")

    async with loopback(hasty) as server, opened() as transport:
        for _ in range(3):
            await exchange(transport, post(server))
        assert server.connections == 3
    async with loopback() as server, opened(HttpTransport(kept_for=0.0)) as transport:
        for _ in range(3):
            await exchange(transport, post(server))
        assert server.connections == 3
        await exchange(transport, post(server, purpose="rest"))


# TLS


async def test_tls_keeps_connections_and_checks_the_other_side():
    async with loopback(tls=True) as server:
        async with opened(HttpTransport(ssl_context=trusting())) as transport:
            for _ in range(5):
                assert await exchange(transport, post(server, bytes(100_000))) == b"{}"
            assert server.connections == 1
        async with opened() as transport:
            with pytest.raises(APIConnectionError, match="certificate verify failed") as caught:
                await exchange(transport, post(server))
            assert not caught.value.sent
        assert len(server.requests) == 5


async def test_https_to_a_plain_server_is_an_error_before_anything_is_sent():
    async def handler(peer: Peer) -> None:
        await peer.stream.receive_some(10)

    async with loopback(handler) as server, opened() as transport:
        request = post(server)
        server.url = server.url.replace("http:", "https:")
        with pytest.raises(APIConnectionError, match="no TLS connection") as caught:
            await transport.send(post(server))
        assert not caught.value.sent
        assert request.url.startswith("http:")
