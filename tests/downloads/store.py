"""A server of checkpoints and, on a port of its own, the store that it names: both break as a test says."""

from __future__ import annotations

import json
import random
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from tinker_actors.config import Config
from tinker_actors.downloads import DownloadedCheckpoint, download_checkpoint
from tinker_actors.ports import ThreadOffload
from tinker_actors.wire.api import Api
from tinker_actors.wire.transport import HttpTransport

__all__ = ["Fault", "open_store", "Store"]

KEY = "tml-planted0123456789"
EXTERNAL = "tinker://run:train:0/external_weights/mine"
WEIGHTS = "tinker://run:train:0/weights/mine"
TARGET = "run:train:0_weights_mine"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """How one download of a file goes wrong."""

    cut: int | None = None  # the connection ends after so many bytes
    status: int | None = None
    length: int | None = None  # what Content-Length says
    alter: int | None = None  # the byte at this place is another one
    headers: dict[str, str] = {}
    chunked: bool = False
    stall: bool = False  # nothing more comes
    redirect: str | None = None
    start: int | None = None  # what Content-Range says


class Store:
    """``files`` by name; ``asked`` has the head of each request, ``faults`` are used up one by one."""

    def __init__(self) -> None:
        self.api_port = self.port = 0
        self.files: dict[str, bytes] = {}
        self.version: str | None = '"v1"'
        self.dated: str | None = None
        self.faults: list[Fault] = []
        self.always: Fault | None = None
        self.ranges = True
        self.asked: list[tuple[str, dict[str, str]]] = []  # of the store
        self.answers: list[tuple[int, dict[str, str], Any]] = []  # of the server, before the usual ones
        self.questions: list[str] = []
        self.changes: list[str] = []  # what the server is asked to change
        self.gone = False  # what is to be changed is not there
        self.expires = "2030-01-01T00:00:00Z"
        self.digest: dict[str, str] = {}
        self.urls: dict[str, str] | None = None
        self.as_json = False

    def url(self, name: str) -> str:
        """Where the file ``name`` is."""
        return f"http://127.0.0.1:{self.port}/{name}?signature=hidden{len(self.questions)}"

    def ranges_asked(self) -> list[str | None]:
        """The Range of each request to the store."""
        return [headers.get("range") for _, headers in self.asked]

    async def serve_api(self, stream: trio.SocketStream) -> None:
        """One connection to the server."""
        method, path, headers = await _head(stream)
        assert headers.get("x-api-key") == KEY
        if method != "GET":
            self.changes.append(f"{method} {path.partition('/training_runs/')[2]}")
            body = b"{}" if self.gone else b""
            await _reply(stream, 404 if self.gone else 204, {"Content-Type": "application/json"}, len(body))
            await stream.send_all(body)
            return
        self.questions.append(path)
        if self.answers:
            status, more, answer = self.answers.pop(0)
        elif path.endswith("/external_weights_urls"):
            urls = self.urls if self.urls is not None else {name: self.url(name) for name in self.files}
            status, more, answer = 200, {}, {"urls": urls, "expires": self.expires}
        elif self.as_json:
            status, more, answer = 200, {}, {"url": self.url("archive"), "expires": "2030-01-01T00:00:00Z"}
        else:
            status, more, answer = 302, {"Location": self.url("archive")}, {}
        body = json.dumps(answer).encode()
        await _reply(stream, status, {"Content-Type": "application/json", **more}, len(body))
        await stream.send_all(body)

    async def serve_files(self, stream: trio.SocketStream) -> None:
        """One connection to the store."""
        _, path, headers = await _head(stream)
        self.asked.append((path, headers))
        fault = self.faults.pop(0) if self.faults else self.always if self.always is not None else Fault()
        if fault.redirect is not None:
            await _reply(stream, 302, {"Location": fault.redirect}, 0)
            return
        content = self.files.get(path.partition("?")[0].lstrip("/"))
        if content is None or fault.status is not None:
            await _reply(stream, fault.status or 404, fault.headers, 0)
            return
        start, status = 0, 200
        more = {**self.digest, **fault.headers}
        if self.version is not None:
            more["ETag"] = self.version
        if self.dated is not None:
            more["Last-Modified"] = self.dated
        asked = headers.get("range")
        if self.ranges and asked is not None and headers.get("if-range") in (self.version, self.dated):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                await _reply(stream, 416, {}, 0)
                return
            status = 206
            shown = start if fault.start is None else fault.start
            more["Content-Range"] = f"bytes {shown}-{len(content) - 1}/{len(content)}"
        body = bytearray(content)
        if fault.alter is not None:
            body[fault.alter] ^= 1
        sent = bytes(body[start:])
        if fault.chunked:
            await _reply(stream, status, more | {"Transfer-Encoding": "chunked"}, None)
            await stream.send_all(b"%x\r\n%b\r\n0\r\n\r\n" % (len(sent), sent))
            return
        await _reply(stream, status, more, len(sent) if fault.length is None else fault.length)
        await stream.send_all(sent[: fault.cut])
        if fault.stall:
            await trio.sleep_forever()


@asynccontextmanager
async def open_store() -> AsyncGenerator[Store]:
    """Both listen on loopback until the block ends."""
    store = Store()
    async with trio.open_nursery() as nursery:

        async def listen(serve: Any) -> int:
            async def handler(stream: trio.SocketStream) -> None:
                try:
                    await serve(stream)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return

            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, handler, [listener])
            return listener.socket.getsockname()[1]

        store.api_port = await listen(store.serve_api)
        store.port = await listen(store.serve_files)
        yield store
        nursery.cancel_scope.cancel()


async def fetch(store: Store, folder: Path, path: str = WEIGHTS, **options: Any) -> DownloadedCheckpoint:
    """Download ``path`` from the server into ``folder``."""
    transport = HttpTransport()
    config = Config.load(api_key=KEY, base_url=f"http://127.0.0.1:{store.api_port}", environ={})
    try:
        return await download_checkpoint(
            Api(transport, config),
            path,
            folder,
            offload=options.pop("offload", ThreadOffload(4)),
            rng=random.Random(1),
            **options,
        )
    finally:
        await transport.aclose()


async def _head(stream: trio.SocketStream) -> tuple[str, str, dict[str, str]]:
    raw = b""
    while b"\r\n\r\n" not in raw:
        piece = await stream.receive_some()
        if not piece:
            raise trio.ClosedResourceError
        raw += piece
    first, *lines = raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    headers = {name.lower(): value for name, value in (re.split(r":\s*", line, maxsplit=1) for line in lines)}
    method, path, _ = first.split(" ")
    return method, path, headers


async def _reply(stream: trio.SocketStream, status: int, headers: dict[str, str], length: int | None) -> None:
    lines = [f"HTTP/1.1 {status} X", "Connection: close"]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    await stream.send_all("\r\n".join([*lines, "", ""]).encode())
