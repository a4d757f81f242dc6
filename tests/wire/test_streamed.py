"""Streamed replies: read as they arrive, bounded, cancellable; and replies beside their values."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.wire.loopback import Loopback, Peer, loopback
from tests.wire.scripted import KEY, Answer, scripted
from tinker_actors import errors
from tinker_actors.config import Config
from tinker_actors.types import Promise
from tinker_actors.wire.api import Api
from tinker_actors.wire.sse import ServerSentEvent
from tinker_actors.wire.transport import HttpTransport

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@asynccontextmanager
async def served(
    *parts: bytes, forever: bool = False
) -> AsyncGenerator[tuple[Api, Loopback, HttpTransport, trio.Event]]:
    """A server that says the first of ``parts``, after ``go`` the others, and, if ``forever``, the last on and on."""
    go = trio.Event()

    async def serve(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.raw(parts[0])
            await go.wait()
            for part in parts[1:]:
                await peer.raw(part)
            while forever:
                await peer.raw(parts[-1])

    async with loopback(serve) as server:
        transport = HttpTransport()
        yield Api(transport, Config.load(base_url=server.url, api_key=KEY, environ={})), server, transport, go
        await transport.aclose()


async def test_events_are_there_as_they_arrive_and_the_connection_is_kept():
    async with served(HEAD + chunk(b"data: 1\n\nda"), chunk(b"ta: 2\n\n") + b"0\r\n\r\n") as (
        api,
        server,
        transport,
        go,
    ):
        with trio.fail_after(10):
            async with api.open("POST", "/stream_sample", {"a": 1}, purpose="sample") as reply:
                seen: list[ServerSentEvent] = []
                async for event in reply.events():
                    seen.append(event)
                    go.set()  # what follows is sent only now
        assert [event.data for event in seen] == ["1", "2"]
        assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
        assert server.requests[0].headers["accept-encoding"] == "identity"
        assert transport.connections == 1
        assert KEY not in repr(reply)


async def test_a_stream_that_is_left_closes_its_connection():
    async with served(HEAD, chunk(b"data: x\n\n"), forever=True) as (api, server, transport, go):
        go.set()
        with trio.fail_after(10):
            async with api.open("POST", "/s", purpose="sample") as reply:
                async for event in reply.events():
                    assert event.data == "x"
                    break
        assert transport.connections == 0
        await server.all_closed()
        with trio.move_on_after(0.2) as scope:
            async with api.open("POST", "/s", purpose="sample") as reply:
                async for _ in reply.pieces():
                    pass
        assert scope.cancelled_caught
        assert transport.connections == 0
        await server.all_closed()


async def test_a_stream_is_bounded_and_a_program_that_reads_slowly_holds_the_server_back():
    async with served(HEAD, chunk(b"x" * 100_000), forever=True) as (api, _, transport, go):
        go.set()
        with trio.fail_after(10):
            async with api.open("POST", "/s", purpose="sample", limit=1 << 20) as reply:
                with pytest.raises(errors.APIResponseError, match="more than 1048576 bytes"):
                    async for _ in reply.pieces():
                        pass
            async with api.open("POST", "/s", purpose="sample", limit=1 << 20) as reply:
                with pytest.raises(errors.APIResponseError, match="more than"):
                    await reply.read()
            async with api.open("POST", "/s", purpose="sample") as reply:
                with pytest.raises(errors.APIResponseError, match="an event of more than"):
                    async for _ in reply.events():
                        pass
        assert transport.connections == 0


async def test_a_stream_that_breaks_or_takes_too_long_says_so():
    async with served(HEAD + chunk(b"data: 1\n\n"), b"garbage\r\n") as (api, _, _, go):
        go.set()
        async with api.open("POST", "/s", purpose="sample") as reply:
            with pytest.raises(errors.APIError):
                async for _ in reply.events():
                    pass
    async with (
        served(HEAD + chunk(b"data: 1\n\n")) as (api, _, _, _),
        api.open("POST", "/s", purpose="sample", timeout=0.2) as reply,
    ):
        with pytest.raises(errors.APITimeoutError):
            async for _ in reply.events():
                pass


async def test_a_refused_stream_is_an_error_like_any_other():
    async with scripted(Answer({"detail": "no such thing"}, 404)) as (api, _):
        with pytest.raises(errors.NotFoundError, match="no such thing"):
            async with api.open("POST", "/s", purpose="sample"):
                pytest.fail("it was opened")
    async with scripted(Answer(b"x", headers={"content-encoding": "zstd"})) as (api, _):
        with pytest.raises(errors.APIResponseError, match="packed"):
            async with api.open("POST", "/s", purpose="sample"):
                pytest.fail("it was opened")


async def test_a_reply_can_be_had_beside_its_value():
    async with scripted(Answer({"request_id": "r"}, 201, {"x-request-id": "q"})) as (api, _):
        parsed = await api.parsed("/x", Promise, {}, purpose="rest")
        assert parsed.value == Promise(request_id="r")
        assert parsed.reply.status == 201
        assert parsed.reply.header("X-Request-Id") == "q"
        assert parsed.reply.header("x-none") is None
        assert parsed.reply.body == b'{"request_id":"r"}'
        raw = await api.exchange("POST", "/x", purpose="rest")
        assert api.decode(raw, dict) == {"request_id": "r"}
