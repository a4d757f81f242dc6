"""What an SDK's client asks of the endpoints that carry no operation: method, path, query and body of each call.

Used by ``record.py``; the calls are those of rest.py. One that a release does not know is left out there.
"""

from __future__ import annotations

import asyncio
import datetime
import inspect
import json
import warnings
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import rest
import tinker

__all__ = ["record"]

# asked by the SDK by itself
ASIDE = ("/telemetry", "/client/config", "/create_session", "/session_heartbeat", "/create_sampling_session")


class Handler(BaseHTTPRequestHandler):
    """Keeps each request, and answers with what any of them may want to read."""

    protocol_version = "HTTP/1.1"
    kept: ClassVar[list[dict[str, Any]]] = []

    def answer(self) -> None:
        """Any method."""
        body = self.rfile.read(int(self.headers["content-length"] or 0)).decode()
        path, _, query = self.path.partition("?")
        if not path.endswith(ASIDE):
            keyed = "x-idempotency-key" in self.headers
            self.kept.append({"method": self.command, "path": path, "query": query, "text": body, "keyed": keyed})
        answer = dict(rest.ANSWER)
        if path.endswith(("/client/config", "/client/dynamic_config")):
            answer = {}
        elif path.endswith(("/telemetry", "/healthz")):
            answer = {"status": "ok" if path.endswith("z") else "accepted"}
        elif path.endswith("/usage/events"):
            answer["sessions"] = {}
        else:
            answer["sessions"] = []
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


def arguments(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` as the SDK takes them: times from text, and a request of its own type."""
    out = dict(values)
    for name in ("starting_on", "ending_before"):
        if name in out:
            out[name] = datetime.datetime.fromisoformat(out[name])
    if "day" in out:
        out["day"] = datetime.date.fromisoformat(out["day"])
    if "request" in out:
        out["request"] = tinker.types.SessionSearchRequest(**out["request"])
    return out


def record() -> list[dict[str, Any]]:
    """Every call that this release knows."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    out: list[dict[str, Any]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for theirs, given, ours, values in rest.CALLS:
            ask = found(theirs, url)
            if ask is None:
                continue
            Handler.kept.clear()
            ask(arguments(given))
            (asked,) = Handler.kept
            out.append({"call": theirs, "ours": ours, "values": values, **asked})
    return out


def found(name: str, url: str) -> Callable[[dict[str, Any]], object] | None:
    """How this release asks ``name``; None where it can't."""
    if name.startswith("service."):
        return resource(name.partition(".")[2], url)
    service = tinker.ServiceClient(base_url=url, api_key="tml-recorder")
    if name == "close":
        return closing(service)
    client = service.create_rest_client()
    if name == "cancel":
        send = getattr(client.holder, "_send_cancel_request", None)
        return send and (lambda given: client.holder.run_coroutine_threadsafe(send(given["request_id"])).result(30))
    method = getattr(client, name, None)
    return method and (lambda given: method(**given).result(30))


def closing(service: Any) -> Callable[[dict[str, Any]], object] | None:
    """The end of a session that was begun."""
    if not hasattr(service, "close"):
        return None
    client = service.create_sampling_client(base_model="m/x")
    if hasattr(client, "result"):
        client.result(30)
    return lambda given: service.close(**given).result(30)


def resource(name: str, url: str) -> Callable[[dict[str, Any]], object] | None:
    """A call of the client beneath."""

    async def ask() -> None:
        async with tinker._client.AsyncTinker(api_key="tml-recorder", base_url=url, max_retries=0) as client:
            method = getattr(client.service, name)
            request = tinker.types.ClientConfigRequest(sdk_version="1.2.3")
            more = {"request": request} if "request" in inspect.signature(method).parameters else {}
            await method(**more)

    if not hasattr(tinker.resources.AsyncServiceResource, name):
        return None
    return lambda given: asyncio.run(ask())
