"""Planted secrets: whatever goes wrong, none is in what is logged, printed, raised, shown or pickled."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import shlex
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import trio

from tests.wire.loopback import Loopback, Peer, loopback
from tinker_actors import Config, InvalidInput, TinkerError, open_runtime
from tinker_actors.errors import APIError
from tinker_actors.ports import Transport
from tinker_actors.types import Promise
from tinker_actors.wire.api import Api
from tinker_actors.wire.httpx_transport import HttpxTransport
from tinker_actors.wire.transport import HttpTransport

KEY = "tml-planted-7f3a-key"
PRINTED = "tml-planted-91bc-printed"
ACCESS = "planted-55de-access"
PASSWORD = "planted-23aa-password"
OWN = "planted-c0c0-own"
CLAIMS = base64.urlsafe_b64encode(json.dumps({"iat": 1000, "exp": 4600}).encode()).decode().rstrip("=")
JWT = f"eyJhbGciOiJub25lIn0.{CLAIMS}.planted-e4e4-signature"
LOGIN = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
PLANTED = (KEY, PRINTED, ACCESS, PASSWORD, OWN, JWT, LOGIN)
OPTIONS: dict[str, Any] = {
    "api_key": KEY,
    "cf_access_client_id": "the-id",
    "cf_access_client_secret": ACCESS,
    "default_headers": {"x-own-token": OWN},
    "dump_headers": True,
    "log_level": "debug",
    "environ": {},
}


class Watch:
    """Collects what could be seen of a run."""

    def __init__(self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
        self.caplog = caplog
        self.capfd = capfd
        self.seen: list[tuple[str, str]] = []

    def show(self, what: str, value: object) -> None:
        self.seen += [(f"repr of {what}", repr(value)), (f"str of {what}", str(value))]
        try:
            self.seen.append((f"pickle of {what}", pickle.dumps(value).decode("latin-1")))
        except Exception as error:  # what can't be pickled tells nothing; its refusal might
            self.seen.append((f"refusal to pickle {what}", "".join(traceback.format_exception(error))))

    def failed(self, what: str, error: BaseException) -> None:
        self.seen.append((f"traceback of {what}", "".join(traceback.format_exception(error))))
        waiting: list[BaseException | None] = [error]
        while waiting:
            found = waiting.pop()
            if found is not None:
                self.show(f"{what}: {type(found).__name__}", found)
                self.seen.append((f"fields of {what}: {type(found).__name__}", f"{found.args} {vars(found)}"))
                waiting += [found.__cause__, found.__context__]
                waiting += found.exceptions if isinstance(found, BaseExceptionGroup) else ()

    def check(self) -> None:
        """Nothing planted was seen anywhere."""
        formatter = logging.Formatter()
        for record in self.caplog.records:
            self.seen.append((f"log of {record.name}", f"{formatter.format(record)} {record.args}"))
        printed = self.capfd.readouterr()
        self.seen += [("stdout", printed.out), ("stderr", printed.err)]
        leaks = [f"{secret} in {where}" for where, text in self.seen for secret in PLANTED if secret in text]
        assert not leaks, "\n".join(leaks)


@pytest.fixture
def watch(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[Watch]:
    """All loggers say what they have."""
    ours = logging.getLogger("tinker_actors")
    before = ours.level
    # logs of httpx show addresses, and those of httpcore the heads of replies, as they are
    quiet = caplog.at_level(logging.WARNING, "httpx"), caplog.at_level(logging.WARNING, "httpcore")
    with quiet[0], quiet[1], caplog.at_level(logging.DEBUG):  # the last one sets the level of what is caught
        yield Watch(caplog, capfd)
    ours.setLevel(before)


def echo(peer_key: str, server: Loopback) -> dict[str, bytes | None]:
    """What a server may say that has seen the key; None: nothing, for ever."""
    key, body = peer_key.encode(), json.dumps({"detail": f"not with {peer_key}", "request_id": "r"}).encode()

    def reply(start: str, content: bytes = body) -> bytes:
        return f"HTTP/1.1 {start}\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content

    return {
        "success": reply(f"200 OK\r\nx-deprecation-note: old is {peer_key}"),
        "refused": reply(f"401 No\r\nx-request-id: {peer_key}\r\nwww-authenticate: Bearer {peer_key}"),
        "broken": reply(f"500 Oops {peer_key}", b"Traceback: " + key),
        "wanting": reply("429 Slow", key * 100),
        "no JSON": reply("200 OK", key),
        "other JSON": reply("200 OK", json.dumps({"request_id": [peer_key]}).encode()),
        "moved in circles": reply(f"307 Moved\r\nlocation: {server.url}/{peer_key}"),
        "moved to nobody": reply(f"307 Moved\r\nlocation: http://127.0.0.1:1/{peer_key}?{peer_key}"),
        "moved nowhere": reply(f"307 Moved\r\nlocation: gopher://{peer_key}/"),
        "no HTTP": b"SSH " + key + b"\r\n\r\n",
        "bad header": b"HTTP/1.1 200 OK\r\n" + key + b" a\r\n\r\n",
        "bad chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + key + b"\r\n",
        "cut": b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + key,
        "bad zstd": reply("200 OK\r\ncontent-encoding: zstd", key),
        "silence": None,
    }


CASES = [*echo("", Loopback(1, "http")), "nobody"]


@pytest.mark.parametrize("kind", ["sockets", "httpx"])
@pytest.mark.parametrize("case", CASES)
async def test_no_answer_brings_a_secret_to_light(case: str, kind: str, watch: Watch):
    async def handler(peer: Peer) -> None:
        asked = await peer.request()
        if asked is None:
            return
        assert asked.headers["x-api-key"] == KEY  # it is sent, and to nobody else
        content = echo(asked.headers["x-api-key"], server)[case]
        if content is None:
            await trio.sleep_forever()
        else:
            await peer.raw(content)

    transport: Transport = (
        HttpTransport() if kind == "sockets" else HttpxTransport(httpx.AsyncClient(trust_env=False))
    )
    async with loopback(handler) as server:
        url = "http://127.0.0.1:1" if case == "nobody" else server.url
        api = Api(transport, Config.load(base_url=url, timeout=0.3 if case == "silence" else 10.0, **OPTIONS))
        try:
            # what is submitted is moved nowhere
            given: dict[str, Any] = {"method": "GET"} if "moved" in case else {"body": {"a": 1}, "key": "k"}
            promise = await api.call("/optim_step", Promise, purpose="train", **given)
            assert case == "success"
            watch.show("the promise", promise)
        except APIError as error:
            assert case != "success"
            watch.failed(case, error)
        watch.show("the api", api)
        watch.show("the transport", transport)
        watch.show("the credentials", await api.credentials.current())
        await transport.aclose()
        if case != "nobody":
            assert server.requests
    if case not in ("nobody", "silence", "no HTTP", "bad header"):
        assert any("x-own-token: [hidden]" in record.getMessage() for record in watch.caplog.records)
    watch.check()


@pytest.mark.parametrize("whole", [True, False])
async def test_no_stream_from_where_a_redirect_led_shows_a_secret(whole: bool, watch: Watch):
    """The path that the request ends up at holds the key, and then the body is cut short."""

    async def handler(peer: Peer) -> None:
        while (asked := await peer.request()) is not None:
            if KEY in asked.target:
                await peer.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegun")
                return
            await peer.raw(f"HTTP/1.1 307 Moved\r\nlocation: /{KEY}\r\ncontent-length: 0\r\n\r\n".encode())

    async with loopback(handler) as server:
        api = Api(HttpTransport(), Config.load(base_url=server.url, **OPTIONS))
        with pytest.raises(APIError) as caught:
            async with api.open("GET", "/models", purpose="rest") as reply:
                watch.show("the reply", reply)
                if whole:
                    await reply.read()
                async for piece in reply.pieces():
                    watch.show("a piece", piece)
        watch.failed("the stream", caught.value)
        assert "[hidden]" in str(caught.value)  # it does tell where it was
        assert any(KEY in request.target for request in server.requests)
    watch.check()


@pytest.mark.parametrize("source", ["key", "command"])
@pytest.mark.parametrize("refuses", [False, True])
async def test_no_part_of_a_runtime_shows_a_secret(source: str, refuses: bool, watch: Watch):
    """A session with a token for its key, or for what a command prints, through a proxy with a login."""
    first = KEY if source == "key" else PRINTED
    sent: set[str] = set()

    async def proxy(peer: Peer) -> None:
        while (asked := await peer.request()) is not None:
            key = asked.headers["x-api-key"]
            sent.update((key, asked.headers["proxy-authorization"].removeprefix("Basic ")))
            if asked.target.endswith("/client/config"):
                await peer.reply(200, json.dumps({"pjwt_auth_enabled": True}).encode())
            elif asked.target.endswith("/auth/token"):
                await peer.reply(200, json.dumps({"jwt": JWT}).encode())
            elif refuses:
                await peer.reply(401, json.dumps({"detail": f"{key} is not known"}).encode())
            else:
                reply = {"session_id": "s", "model_id": "m", "request_id": "r", "error": f"{key} {first}"}
                await peer.reply(200, json.dumps(reply).encode())

    command = shlex.join([sys.executable, "-c", f"print({PRINTED!r})"])
    credential = {"api_key": KEY} if source == "key" else {"credential_cmd": command, "api_key": None}
    async with loopback(proxy) as server:
        config = Config.load(
            base_url="http://127.0.0.1:1",
            start_bound=2.0,
            proxy=f"http://user:{PASSWORD}@127.0.0.1:{server.port}",
            **(OPTIONS | credential),
        )
        watch.show("the configuration", config)
        try:
            async with open_runtime(config=config) as runtime:
                with runtime.system.events.subscribe(lambda event: watch.show("an event", event)):
                    with trio.move_on_after(5):
                        service = await runtime.create_service_client()
                        watch.show("the client", service)
                        watch.show("the client's configuration", service.config)
                        await service.create_lora_training_client("base", rank=4)
                for what in (runtime, runtime.tree(), runtime.pending(), runtime.counters()):
                    watch.show("the runtime's state", what)
        except TinkerError as error:
            watch.failed("the session", error)
        assert {first, JWT, LOGIN} <= sent
    watch.check()


def test_no_refused_setting_shows_what_was_given(watch: Watch):
    for name, value in {
        "api_key": f"{KEY} with a space",
        "credential_cmd": f"'{KEY}",
        "proxy": f"http://user:{PASSWORD}@host:port",
        "cf_access_client_secret": f"{ACCESS}\n",
        "default_headers": {"x-own-token": f"{OWN}\n"},
    }.items():
        try:
            config = Config.load(**(OPTIONS | {name: value}))
            watch.show(name, config)
        except InvalidInput as error:
            watch.failed(name, error)
    watch.check()
