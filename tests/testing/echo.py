"""A small ASGI application for the tests of the network: it counts what it did."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from tinker_actors.testing.network import Message

__all__ = ["Echo"]


class Echo:
    """Answers with the request's body in two pieces after ``work`` seconds; ``done`` is what it has acted on."""

    def __init__(self, work: float = 0.0) -> None:
        self.work = work
        self.done: list[bytes] = []
        self.disconnects = 0
        self.scopes: list[Message] = []

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        self.scopes.append(scope)
        message = await receive()
        body: bytes = message["body"]
        if scope["path"].endswith("/broken"):
            raise RuntimeError("a bug in the application")
        if scope["path"].endswith("/hang"):
            message = await receive()
            assert message["type"] == "http.disconnect"
            self.disconnects += 1
            return
        await trio.sleep(self.work)
        self.done.append(body)
        headers = [(b"X-Length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body[:3], "more_body": True})
        if scope["path"].endswith("/slow_body"):
            await trio.sleep(100)
        if scope["path"].endswith("/cut"):
            return
        await send({"type": "http.response.body", "body": body[3:]})
