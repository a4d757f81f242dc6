"""HttpTransport over real sockets: what arrives, what breaks, and what is left open."""

from __future__ import annotations

import random
import socket
import ssl
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import numpy as np
import pytest
import trio

from tests.wire.loopback import CERTIFICATE, Loopback, Peer, loopback, open_files, serve_forever
from tinker_actors.errors import APIConnectionError, APIResponseError, APITimeoutError, InvalidInput
from tinker_actors.ports import Purpose, Request
from tinker_actors.wire.transport import HttpTransport

LIMIT = 1 << 26
OK = b"HTTP/1.1 200 OK\r\n"
FAREWELL = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


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


# what breaks


async def closed_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


async def test_a_refused_connection_was_certainly_not_sent():
    url = f"http://127.0.0.1:{await closed_port()}/x"
    async with opened() as transport:
        for host in (url, url.replace("127.0.0.1", "localhost")):
            with pytest.raises(APIConnectionError, match="can't connect") as caught:
                await transport.send(Request(method="POST", url=host))
            assert not caught.value.sent
            assert caught.value.request == "POST /x"


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12",
    ],
)
@pytest.mark.parametrize("reset", [False, True])
async def test_a_connection_lost_within_the_reply(reply: bytes, reset: bool):
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.raw(reply)
        if reset:
            assert isinstance(peer.stream, trio.SocketStream)
            peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with loopback(handler) as server, opened() as transport:
        with pytest.raises(APIConnectionError) as caught:
            await exchange(transport, post(server))
        assert caught.value.sent
        assert not isinstance(caught.value, TimeoutError)
        assert transport.connections == 0


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnothex\r\n",
    ],
    ids=["ssh", "length", "head", "chunk"],
)
async def test_an_answer_that_is_no_http(reply: bytes):
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.raw(reply)
        await peer.closed()

    async with loopback(handler) as server, opened() as transport:
        with pytest.raises(APIResponseError, match="no HTTP"):
            await exchange(transport, post(server))
        await server.all_closed()


async def test_a_body_beyond_its_limit_is_given_up():
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await peer.raw(b"1000\r\n" + b"a" * 4096 + b"\r\n")

    async with loopback(handler) as server, opened() as transport:
        response = await transport.send(post(server))
        with pytest.raises(APIResponseError, match="more than 10000 bytes"):
            await response.read(10_000)
        await server.all_closed()


async def test_a_refusal_that_comes_before_the_end_of_the_request_is_heard():
    async def handler(peer: Peer) -> None:
        await peer.head()
        await peer.raw(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")
        await trio.sleep(0.05)  # the client is still writing then

    async with loopback(handler) as server, opened() as transport:
        response = await transport.send(post(server, bytes(50 << 20)))
        assert response.status == 413
        assert await response.read(10) == b"no"
        assert transport.connections == 0


def test_headers_that_can_not_be_sent_are_refused_without_being_shown():
    async def main() -> None:
        async with opened() as transport:
            for value in ("tml-secret\r\nx: y", "tml-secret\N{SNOWMAN}"):
                request = Request(method="GET", url="http://127.0.0.1:1/", headers=(("x-api-key", value),))
                with pytest.raises(InvalidInput) as caught:
                    await transport.send(request)
                assert "secret" not in str(caught.value)
                assert "secret" not in repr(request)
            with pytest.raises(InvalidInput):
                await transport.send(Request(method="GET", url="ftp://x/"))

    trio.run(main)


# time


async def test_a_slow_server_is_waited_for_as_long_as_was_said():
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    async with loopback(handler) as server, opened() as transport:
        began = trio.current_time()
        with pytest.raises(APITimeoutError, match=r"POST /api/v1/asample: no answer within 0\.2 s") as caught:
            await transport.send(post(server, timeout=0.2))
        assert 0.2 <= trio.current_time() - began < 8
        assert caught.value.sent
        await server.all_closed()
        assert server.client_closed == 1


async def test_a_slow_body_counts_against_the_same_time():
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
        while True:
            await peer.raw(b"a")
            await trio.sleep(0.05)

    async with loopback(handler) as server, opened() as transport:
        began = trio.current_time()
        response = await transport.send(post(server, timeout=0.3))
        with pytest.raises(APITimeoutError, match="not complete"):
            await response.read(1000)
        assert 0.3 <= trio.current_time() - began < 8
        await server.all_closed()


async def test_waiting_for_a_connection_counts_too_and_nothing_was_sent():
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    async with (
        loopback(handler) as server,
        opened(HttpTransport(limits={"sample": 1})) as transport,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(exchange, transport, post(server, timeout=60))
        with trio.fail_after(10):
            while not server.requests:
                await server.changed.wait()
        with pytest.raises(APITimeoutError, match=r"no connection within 0\.1 s") as caught:
            await transport.send(post(server, timeout=0.1))
        assert not caught.value.sent
        assert server.connections == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("after_head", [False, True])
async def test_a_cancelled_request_closes_its_connection(after_head: bool):
    async def handler(peer: Peer) -> None:
        await peer.request()
        if after_head:
            await peer.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\na")
        await peer.closed()

    async with loopback(handler) as server, opened() as transport:
        with trio.move_on_after(0.1) as scope:
            await exchange(transport, post(server))
        assert scope.cancelled_caught
        await server.all_closed()
        assert server.client_closed == 1
        assert transport.connections == 0


async def test_a_response_that_is_given_up_closes_its_connection():
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\na")
        await peer.closed()

    async with loopback(handler) as server, opened() as transport:
        response = await transport.send(post(server))
        await response.aclose()
        await response.aclose()
        assert await response.read(10) == b""
        await server.all_closed()


# many


async def test_a_thousand_at_once_all_arrive_and_nothing_is_left_open():
    before = open_files()
    async with loopback() as server:
        async with opened() as transport:
            answers: list[bytes] = []

            async def one(number: int) -> None:
                answers.append(await exchange(transport, post(server, str(number).encode(), timeout=30)))

            for _ in range(2):
                async with trio.open_nursery() as nursery:
                    for number in range(1000):
                        nursery.start_soon(one, number)
            assert len(answers) == 2000
            assert len(server.requests) == 2000
            assert server.connections <= 64  # the limit for samples
            assert transport.connections == server.open
        await server.all_closed()
    assert open_files() == before


async def test_a_thousand_long_polls_each_get_a_connection():
    arrived = 0
    everyone = trio.Event()

    async def handler(peer: Peer) -> None:
        nonlocal arrived
        await peer.request()
        arrived += 1
        if arrived == 500:
            everyone.set()
        await everyone.wait()
        await peer.reply()
        await serve_forever(peer)

    before = open_files()
    async with loopback(handler) as server, opened(HttpTransport(limits={"poll": 500})) as transport:
        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(exchange, transport, post(server, purpose="poll", timeout=30))
        assert server.connections == 500
        assert len(server.requests) == 1000
    assert open_files() == before


async def test_no_socket_is_left_by_anything_that_goes_wrong():
    """A storm of cancellations, timeouts, cut replies, resets and good requests, drawn from a seed."""
    rng = random.Random(7)

    async def handler(peer: Peer) -> None:
        while await peer.request() is not None:
            match rng.randrange(6):
                case 0:
                    return
                case 1:
                    await peer.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n12")
                    return
                case 2:
                    await trio.sleep(0.2)
                case 3:
                    await peer.raw(b"nonsense\r\n\r\n")
                    return
                case _:
                    pass
            await peer.reply()

    done = failed = cancelled = 0

    async def one(transport: HttpTransport, server: Loopback) -> None:
        nonlocal done, failed, cancelled
        with trio.move_on_after(rng.choice([0.0, 0.01, 0.1, 60.0])) as scope:
            try:
                await exchange(transport, post(server, timeout=rng.choice([0.05, 60.0])))
                done += 1
            except (APIConnectionError, APIResponseError):
                failed += 1
        cancelled += scope.cancelled_caught

    before = open_files()
    async with loopback(handler) as server, opened(HttpTransport(limits={"sample": 20})) as transport:
        async with trio.open_nursery() as nursery:
            for _ in range(400):
                nursery.start_soon(one, transport, server)
        assert done + failed + cancelled == 400
        assert min(done, failed, cancelled) > 0
        assert transport.connections <= 20
        # whoever comes after the storm is served
        for _ in range(5):
            with trio.move_on_after(60):
                await one(transport, server)
    assert open_files() == before


async def test_closing_ends_what_is_under_way_and_refuses_what_comes():
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    async with loopback(handler) as server, trio.open_nursery() as nursery:
        transport = HttpTransport(limits={"sample": 2})
        errors: list[APIConnectionError] = []

        async def one() -> None:
            with pytest.raises(APIConnectionError) as caught:
                await exchange(transport, post(server))
            errors.append(caught.value)

        for _ in range(4):
            nursery.start_soon(one)
        with trio.fail_after(5):
            while len(server.requests) < 2:
                await server.changed.wait()
        await transport.aclose()
        await one()
        await server.all_closed()
    await transport.aclose()
    assert sorted(error.sent for error in errors) == [False, False, False, True, True]
    assert all("closed by this client" in str(error) for error in errors)


# TLS


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=CERTIFICATE)


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
