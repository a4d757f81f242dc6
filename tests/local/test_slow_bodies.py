"""Bodies that come slowly, or never."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import trio
from hypercorn.config import Config

from tests.local.harness import TINY, open_stage
from tinker_actors.local.connections import serve_connections
from tinker_actors.local.settings import ServerSettings

BODY = b'{"tags":[],"user_metadata":{},"sdk_version":"0.38.0"}'
HEAD = b"POST /api/v1/create_session HTTP/1.1\r\nHost: a\r\nX-API-Key: tml-a\r\nContent-Length: %d\r\n\r\n" % len(
    BODY
)


async def posted(app: Any, pieces: AsyncIterator[bytes]) -> tuple[int, dict[bytes, bytes], Any]:
    """Status, headers and content of the answer to a body in ``pieces``, as ASGI has them."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": await anext(pieces), "more_body": True}

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    path = "/api/v1/create_session"
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
    scope |= {"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""}
    scope |= {"headers": [(b"x-api-key", b"tml-a")], "client": ("127.0.0.1", 1), "server": ("server", 80)}
    await app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), msgspec.json.decode(sent[1]["body"])


async def test_a_body_that_stops_coming_is_answered_within_the_bound(autojump_clock: object) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for end in (8, 16):
            await trio.sleep(29.0)
            yield BODY[end - 8 : end]
        await trio.sleep(math.inf)

    async with open_stage(ServerSettings(base_model=TINY, body_timeout=30.0)) as stage:
        began = trio.current_time()
        status, headers, answer = await posted(stage.service.app, pieces())
        assert trio.current_time() - began == 29.0 + 29.0 + 30.0
        assert status == 408
        assert headers[b"connection"] == b"close"
        assert "body came for 30 s, after 16 bytes" in answer["detail"]
        assert not stage.service.sessions.alive()
        await stage.caller.train(await stage.caller.model(), 1)


async def test_such_a_connection_ends_and_no_other_one() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    stop = trio.Event()
    with trio.fail_after(20):
        async with (
            open_stage(ServerSettings(base_model=TINY, body_timeout=0.3)) as stage,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(serve, stage.service.app, listener, stop)
            async with await trio.open_tcp_stream("127.0.0.1", port) as other:
                await other.send_all(HEAD + BODY)
                assert (await answer_of(other)).startswith(b"HTTP/1.1 200")
                for begun in (HEAD, HEAD + BODY[:9]):
                    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                        await stream.send_all(begun)
                        answer = b"".join([piece async for piece in stream])
                        assert answer.startswith(b"HTTP/1.1 408")
                        assert b"Send the request again" in answer
                await other.send_all(HEAD + BODY)
                assert (await answer_of(other)).startswith(b"HTTP/1.1 200")
            stop.set()


async def answer_of(stream: trio.SocketStream) -> bytes:
    answer = b""
    while not answer.endswith(b"}"):
        answer += await stream.receive_some()
    return answer


async def serve(app: object, listener: trio.SocketListener, stop: trio.Event) -> None:
    await serve_connections(app, Config(), listener, stop, grace=0.2)
