"""As much of the Hugging Face hub as ``tinker checkpoint push-hf`` asks for, on loopback."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Hub", "serving_hub"]


class Hub:
    """What was pushed: the repositories that were made, and the files by their paths."""

    def __init__(self) -> None:
        self.url = ""
        self.repositories: list[str] = []
        self.files: dict[str, bytes] = {}


@contextmanager
def serving_hub() -> Iterator[Hub]:
    """A hub that keeps what is committed to it."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/api/whoami-v2":
                self._answer({"name": "somebody", "type": "user", "orgs": []})
            else:
                self._answer({"error": "not found"}, 404)

        def do_HEAD(self) -> None:
            self.send_response(404)
            self.send_header("content-length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.path == "/api/repos/create":
                wanted = json.loads(body)
                hub.repositories.append(f"{wanted.get('organization')}/{wanted['name']}")
                self._answer({"url": f"{hub.url}/somebody/adapter"})
            elif self.path == "/api/validate-yaml":
                self._answer({"warnings": [], "errors": []})
            elif "/preupload/" in self.path:
                asked = json.loads(body)["files"]
                regular = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in asked]
                self._answer({"files": regular})
            elif "/commit/" in self.path:
                for line in body.decode().splitlines():
                    operation = json.loads(line)
                    if operation["key"] == "file":
                        value = operation["value"]
                        hub.files[value["path"]] = base64.b64decode(value["content"])
                self._answer(
                    {"commitUrl": f"{hub.url}/somebody/adapter/commit/1", "commitOid": "1", "hookOutput": ""}
                )
            else:
                self._answer({"error": "not found"}, 404)

        def _answer(self, value: Any, status: int = 200) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """The test says what went wrong."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
