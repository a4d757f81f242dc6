"""A stand-in for the Hugging Face hub on loopback, which breaks as a test says."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

__all__ = ["COMMIT", "git_digest", "HubStandIn", "open_hub", "PACKAGED"]

COMMIT = "c" * 40
PACKAGED = (Path(__file__).parents[2] / "tinker_actors" / "local" / "base" / "tokenizer.json").read_bytes()


def git_digest(content: bytes) -> str:
    """The digest by which the hub names small files."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class HubStandIn:
    """``files`` by "repo/file"; what it was asked for, and how it is to go wrong."""

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str, str]] = []  # method, repo, revision, file
        self.tokens: list[str | None] = []
        self.cut = False  # downloads end half-way
        self.slow = threading.Event()  # set while downloads stop half-way, until it is cleared
        self.half_way = threading.Event()
        self.altered = 0  # so many downloads give other bytes of the same length
        self.digest = git_digest

    @property
    def downloads(self) -> list[str]:
        """The files that were asked for with their contents."""
        return [file for method, _, _, file in self.asked if method == "GET"]


@contextmanager
def open_hub() -> Generator[HubStandIn]:
    """A hub that listens; ``url`` is for HF_ENDPOINT."""
    hub = HubStandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            repo, _, rest = self.path.strip("/").partition("/resolve/")
            revision, _, file = rest.partition("/")
            hub.asked.append((self.command, repo, revision, file))
            hub.tokens.append(self.headers.get("authorization"))
            content = hub.files.get(f"{repo}/{file}")
            self.close_connection = True
            if content is None:
                known = any(name.startswith(f"{repo}/") for name in hub.files)
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.send_header("Connection", "close")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hub.digest(content)}"')
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Connection", "close")
            self.end_headers()
            if not with_body:
                return
            if hub.altered > 0:
                hub.altered -= 1
                content = bytes([content[0] ^ 1]) + content[1:]
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if hub.cut:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            while hub.slow.is_set():
                hub.half_way.set()
                time.sleep(0.01)
            self.wfile.write(content[len(content) // 2 :])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda request, client_address: None  # who is gone is gone
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.slow.clear()
        server.shutdown()
        thread.join()
        server.server_close()
