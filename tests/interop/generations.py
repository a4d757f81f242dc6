"""Our local server as servers of older generations are."""

from __future__ import annotations

from typing import Any

__all__ = ["json_only"]

_PROTOBUF = b"x-protobuf"


def json_only(app: Any) -> Any:
    """``app`` as before SDK 0.25: forward_backward is taken in JSON only, and all results are JSON."""

    async def older(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name != b"accept"]
        if any(name == b"content-type" and _PROTOBUF in value for name, value in headers):
            while (await receive()).get("more_body"):
                pass
            start = {"status": 415, "headers": [(b"content-type", b"application/json"), (b"content-length", b"2")]}
            await send({"type": "http.response.start", **start})
            await send({"type": "http.response.body", "body": b"{}"})
            return
        await app({**scope, "headers": [*headers, (b"accept", b"application/json")]}, receive, send)

    return older
