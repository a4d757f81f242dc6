"""HttpTransport over real sockets: what breaks, what is slow or given up, and what is left open."""

from __future__ import annotations

import random
import socket
import struct

import pytest
import trio

from tests.wire.exchanges import exchange, opened, post
from tests.wire.loopback import Loopback, Peer, loopback, open_files, serve_forever
from tinker_actors.errors import APIConnectionError, APIResponseError, APITimeoutError, InvalidInput
from tinker_actors.ports import Request
from tinker_actors.wire.transport import HttpTransport

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
