"""HttpxTransport keeps to the rules of the Transport port, over real sockets."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
import trio

from tests.wire.loopback import CERTIFICATE, Loopback, Peer, loopback, open_files
from tinker_actors.config import Config
from tinker_actors.errors import APIConnectionError, APIResponseError, APITimeoutError
from tinker_actors.ports import Request, Response
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints.service import get_server_capabilities
from tinker_actors.wire.httpx_transport import HttpxTransport


@asynccontextmanager
async def opened(**options: object) -> AsyncGenerator[HttpxTransport]:
    transport = HttpxTransport(httpx.AsyncClient(**options))
    try:
        yield transport
    finally:
        with trio.CancelScope(shield=True):
            await transport.aclose()


def post(server: Loopback, *body: bytes | memoryview, timeout: float = 10.0) -> Request:
    return Request(
        method="POST", url=f"{server.url}/base/x?a=1", headers=(("x-key", "k"),), body=body, timeout=timeout
    )


async def test_a_request_arrives_as_it_was_and_so_does_its_reply():
    async def handler(peer: Peer) -> None:
        for _ in range(2):
            await peer.request()
            await peer.reply(201, b"made", X_Thing="a")
        await peer.request()

    async with loopback(handler) as server, opened() as transport:
        for _ in range(2):
            response = await transport.send(post(server, b"ab", memoryview(b"cd")))
            assert (response.status, response.headers["x-thing"]) == (201, "a")
            assert await response.read(4) == b"made"
        first, second = server.requests
        assert first == second
        assert (first.method, first.target, first.body) == ("POST", "/base/x?a=1", b"abcd")
        assert first.headers["content-length"] == "4"
        assert first.headers["x-key"] == "k"
        assert server.connections == 1


async def test_a_body_stays_compressed_for_the_api_to_bound():
    packed = b"\x1f\x8b not looked at here"

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.reply(200, packed, content_encoding="gzip")

    async with loopback(handler) as server, opened() as transport:
        assert await (await transport.send(post(server))).read(100) == packed


async def test_the_api_works_over_it():
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.reply(200, b'{"supported_models": [{"model_name": "m"}]}')

    async with loopback(handler) as server, opened() as transport:
        api = Api(transport, Config.load(base_url=server.url, api_key="tml-x", environ={}))
        assert (await get_server_capabilities(api)).supported_models[0].model_name == "m"


async def test_a_refused_connection_was_certainly_not_sent():
    async with opened() as transport:
        with pytest.raises(APIConnectionError) as caught:
            await transport.send(Request(method="POST", url="http://127.0.0.1:9/x"))
        assert not caught.value.sent


@pytest.mark.parametrize(
    "reply", [b"", b"HTTP/1.1 200 OK\r\ncontent-le", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345"]
)
async def test_a_lost_connection_may_have_been_sent(reply: bytes):
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.raw(reply)

    async with loopback(handler) as server, opened() as transport:
        with pytest.raises(APIConnectionError) as caught:
            await (await transport.send(post(server, b"x"))).read(100)
        assert caught.value.sent


async def test_an_answer_that_is_no_http():
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    async with loopback(handler) as server, opened() as transport:
        with pytest.raises(APIResponseError, match="no HTTP"):
            await transport.send(post(server))


async def test_one_deadline_for_the_whole_exchange():
    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    async def slow(peer: Peer) -> None:
        await peer.request()
        await peer.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\na")
        await peer.closed()

    async with loopback(silent) as server, opened() as transport:
        with pytest.raises(APITimeoutError, match="no answer within"):
            await transport.send(post(server, timeout=0.2))
        await server.all_closed()
    async with loopback(slow) as server, opened() as transport:
        response = await transport.send(post(server, timeout=0.3))
        with pytest.raises(APITimeoutError, match="not complete"):
            await response.read(1000)
        await server.all_closed()


async def test_a_body_beyond_its_limit_is_given_up():
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.reply(200, b"12345")

    async with loopback(handler) as server, opened() as transport:
        response = await transport.send(post(server))
        with pytest.raises(APIResponseError, match="more than 4 bytes"):
            await response.read(4)


async def test_tls_is_the_clients_affair_and_nothing_stays_open():
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.reply(200, b"ok")

    before = open_files()
    async with loopback(handler, tls=True) as server:
        async with opened(verify=ssl.create_default_context(cafile=CERTIFICATE)) as transport:
            url = f"https://localhost:{server.port}/x"
            assert await (await transport.send(Request(method="GET", url=url))).read(10) == b"ok"
        async with opened() as transport:
            with pytest.raises(APIConnectionError) as caught:
                await transport.send(Request(method="GET", url=url))
            assert not caught.value.sent
    assert open_files() == before


async def test_a_closed_transport_says_so():
    async with opened() as transport:
        await transport.aclose()
        with pytest.raises(APIConnectionError, match="closed") as caught:
            await transport.send(Request(method="GET", url="http://127.0.0.1:9/"))
        assert not caught.value.sent


# turns


async def ends_well(response: Response) -> None:
    assert await response.read(10) == b"{}"
    await response.aclose()  # once more: its turn was passed on already


async def ends_early(response: Response) -> None:
    await response.aclose()
    await response.aclose()


async def ends_too_long(response: Response) -> None:
    with pytest.raises(APIResponseError):
        await response.read(1)


@pytest.mark.parametrize("end", [ends_well, ends_early, ends_too_long])
async def test_only_so_many_are_under_way_and_each_passes_its_turn_on_once(
    end: Callable[[Response], Awaitable[None]],
):
    under_way = most = 0

    async def handler(peer: Peer) -> None:
        nonlocal under_way, most
        while await peer.request() is not None:
            under_way += 1
            most = max(most, under_way)
            await trio.sleep(0.01)
            under_way -= 1
            await peer.reply()

    async def one() -> None:
        await end(await transport.send(post(server)))

    async with loopback(handler) as server:
        transport = HttpxTransport(httpx.AsyncClient(), limits={"rest": 2})
        with trio.move_on_after(5) as scope:
            async with trio.open_nursery() as nursery:
                for _ in range(7):
                    nursery.start_soon(one)
        assert (scope.cancelled_caught, most) == (False, 2)
        await transport.aclose()


async def test_who_fails_or_leaves_passes_the_turn_on_and_who_never_had_one_was_not_sent():
    silent = trio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        silent.set()
        await peer.closed()

    async with loopback(handler) as server:
        transport = HttpxTransport(httpx.AsyncClient(), limits={"rest": 1})
        with pytest.raises(APIConnectionError):  # refused
            await transport.send(Request(method="GET", url="http://127.0.0.1:9/"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.send, post(server))
            await silent.wait()
            with pytest.raises(APITimeoutError, match="others of its purpose") as waited:
                await transport.send(post(server, timeout=0.05))
            assert not waited.value.sent
            nursery.cancel_scope.cancel(reason="it gives up")
        with pytest.raises(APITimeoutError, match="no answer") as asked:
            await transport.send(post(server, timeout=0.1))
        assert asked.value.sent
        assert len(server.requests) == 2
        await transport.aclose()
