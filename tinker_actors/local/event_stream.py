"""Server-sent events as a response: each leaves when it is there, and a client that goes ends the rest."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import final

import msgspec
import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tinker_actors.codec.json import encode_json

__all__ = ["EventStream"]


@final
class EventStream(Response):
    """One event for each of ``values``, in JSON; closed before its end when the client has gone."""

    media_type = "text/event-stream"

    def __init__(self, values: AsyncGenerator[msgspec.Struct]) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-cache"})
        del self.headers["content-length"]
        self._values = values

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        async with aclosing(self._values) as values, trio.open_nursery() as nursery:
            nursery.start_soon(_watch, receive, nursery.cancel_scope)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for value in values:
                event = b"data: " + encode_json(value) + b"\n\n"
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            nursery.cancel_scope.cancel(reason="all events are sent")


async def _watch(receive: Receive, sending: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    sending.cancel(reason="the client has gone")
