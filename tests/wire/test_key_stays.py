"""Who gets a key, a token and what goes with them: the server that was configured, and nobody else."""

from __future__ import annotations

import base64
import io
import json
import random
import shlex
import ssl
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.wire.loopback import CERTIFICATE, Loopback, Peer, Received, loopback
from tinker_actors import Config, InvalidInput, open_runtime
from tinker_actors.credentials import Keeper
from tinker_actors.errors import APIStatusError
from tinker_actors.ports import Transport
from tinker_actors.wire.api import Api
from tinker_actors.wire.httpx_transport import HttpxTransport
from tinker_actors.wire.transport import HttpTransport
from tinker_actors.wire.upload import upload

KEY = "tml-planted-key"
CLAIMS = base64.urlsafe_b64encode(json.dumps({"iat": 1000, "exp": 4600}).encode()).decode().rstrip("=")
TOKEN = f"eyJhbGciOiJub25lIn0.{CLAIMS}.planted-token"
ACCESS = {"cf_access_client_id": "planted-id", "cf_access_client_secret": "planted-secret"}
OWN = {"authorization": "Bearer planted-own", "cookie": "planted=cookie", "x-team": "planted-team"}
WEIGHTS = (("x-tinker-weights-access-token", "planted-weights"),)
FOR_ANY_HOST = {"accept", "accept-encoding", "connection", "host", "user-agent"}


def sockets() -> Transport:
    return HttpTransport(ssl_context=ssl.create_default_context(cafile=CERTIFICATE))


def over_httpx(**options: Any) -> Transport:
    return HttpxTransport(httpx.AsyncClient(verify=ssl.create_default_context(cafile=CERTIFICATE), **options))


def following() -> Transport:
    return over_httpx(follow_redirects=True)


TRANSPORTS = pytest.mark.parametrize("make", [sockets, over_httpx, following])
CREDENTIALS = pytest.mark.parametrize("credential", [KEY, TOKEN], ids=["key", "token"])


def moving(status: int, place: Callable[[], str]) -> Callable[[Peer], Awaitable[None]]:
    """A server that exchanges the key, and says of everything else that it is at ``place``."""

    async def serve(peer: Peer) -> None:
        while (asked := await peer.request()) is not None:
            if asked.target.endswith("/auth/token"):
                await peer.reply(200, json.dumps({"jwt": TOKEN}).encode())
            elif asked.target == "/there":
                await peer.reply()
            else:
                await peer.reply(status, b"", location=place())

    return serve


@asynccontextmanager
async def opened(make: Callable[[], Transport], url: str, credential: str) -> AsyncGenerator[Api]:
    transport = make()
    config = Config.load(base_url=url, api_key=KEY, environ={}, default_headers=OWN, **ACCESS)
    keeper = Keeper(config, transport, random.Random(1))
    keeper.learn(exchange=credential == TOKEN, source="api_key")
    try:
        yield Api(transport, config, keeper)
    finally:
        await transport.aclose()


async def whole(api: Api) -> None:
    assert (await api.exchange("GET", "/here", purpose="rest", headers=WEIGHTS)).body == b"{}"


async def streamed(api: Api) -> None:
    async with api.open("GET", "/here", purpose="sample", headers=WEIGHTS) as reply:
        assert await reply.read() == b"{}"


async def submitted(api: Api) -> None:
    await api.call("/here", dict, {"secret": "planted-body"}, purpose="train", key="k")


async def stream_of_a_submission(api: Api) -> None:
    async with api.open("POST", "/here", {"secret": "planted-body"}, purpose="sample", key="k") as reply:
        await reply.read()


async def uploaded(api: Api) -> None:
    files = {"file": ("a.txt", b"planted-file")}
    await upload(api, "/here", dict, {"secret": "planted-body"}, files, rng=random.Random(1), headers=WEIGHTS)


async def uploaded_once(api: Api) -> None:
    await upload(api, "/here", dict, {}, {"file": ("a.txt", OnceOnly(b"planted-file"))}, rng=random.Random(1))


class OnceOnly(io.BytesIO):
    """What can't be read a second time."""

    def seekable(self) -> bool:
        return False


def carries(asked: Received, credential: str) -> bool:
    given = asked.headers
    return (
        given["x-api-key"] == credential
        and (given["cf-access-client-id"], given["cf-access-client-secret"]) == ("planted-id", "planted-secret")
        and all(given[name] == value for name, value in OWN.items())
    )


@TRANSPORTS
@CREDENTIALS
@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize("where", ["another port", "another host", "the way down", "another scheme"])
async def test_elsewhere_nothing_of_the_callers_arrives(
    where: str, ask: Callable[[Api], Awaitable[None]], credential: str, make: Callable[[], Transport]
):
    def place(server: Loopback, host: str) -> str:
        return f"{server.url.partition(':')[0]}://{host}:{server.port}"

    secure = where == "the way down", where == "another scheme"
    own, other = "localhost" if secure[0] else "127.0.0.1", "127.0.0.1" if where == "another port" else "localhost"
    async with (
        loopback(moving(302, lambda: f"{place(server, own)}/there"), tls=secure[1]) as elsewhere,
        loopback(moving(302, lambda: f"{place(elsewhere, other)}/away"), tls=secure[0]) as server,
        opened(make, place(server, own), credential) as api,
    ):
        await ask(api)

    *_, first, back = server.requests
    assert carries(first, credential)
    (seen,) = elsewhere.requests
    for strange in (seen, back):  # who comes back from elsewhere was sent by it
        assert "planted" not in str(strange)
        assert set(strange.headers) <= FOR_ANY_HOST
    assert (first.target, seen.target, back.target) == ("/api/v1/here", "/away", "/there")


@TRANSPORTS
@CREDENTIALS
@pytest.mark.parametrize("ask", [submitted, stream_of_a_submission, uploaded, uploaded_once])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_what_is_sent_goes_to_its_server_or_nowhere(
    status: int, ask: Callable[[Api], Awaitable[None]], credential: str, make: Callable[[], Transport]
):
    async with (
        loopback() as elsewhere,
        loopback(moving(status, lambda: f"{elsewhere.url}/away")) as server,
        opened(make, server.url, credential) as api,
    ):
        with pytest.raises(APIStatusError, match="redirect") as refused:
            await ask(api)

    assert refused.value.status == status
    assert "planted" not in str(refused.value)
    assert [asked.target for asked in server.requests if "auth" not in asked.target] == ["/api/v1/here"]
    assert not elsewhere.connections


@TRANSPORTS
@CREDENTIALS
@pytest.mark.parametrize("ask", [whole, streamed, submitted, stream_of_a_submission, uploaded])
async def test_within_its_server_everything_goes_along(
    ask: Callable[[Api], Awaitable[None]], credential: str, make: Callable[[], Transport]
):
    async with loopback(moving(307, lambda: "/there")) as server, opened(make, server.url, credential) as api:
        await ask(api)

    *_, first, again = server.requests
    assert carries(first, credential)
    assert carries(again, credential)
    assert (again.target, again.body) == ("/there", first.body)


@TRANSPORTS
async def test_no_key_is_exchanged_where_a_redirect_leads(make: Callable[[], Transport]):
    async def serve(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.reply(307, b"", location=f"{elsewhere.url}/api/v1/auth/token")

    async with loopback() as elsewhere, loopback(serve) as server, opened(make, server.url, TOKEN) as api:
        with pytest.raises(APIStatusError, match="another host"):
            await submitted(api)
    assert len(server.requests) == 1
    assert not elsewhere.connections


@TRANSPORTS
async def test_a_refusal_elsewhere_is_none_of_the_token(make: Callable[[], Transport]):
    async def refuse(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.reply(401, b"{}", www_authenticate='Bearer error="invalid_token"')

    async with (
        loopback(refuse) as elsewhere,
        loopback(moving(302, lambda: f"{elsewhere.url}/away")) as server,
        opened(make, server.url, TOKEN) as api,
    ):
        with pytest.raises(APIStatusError) as refused:
            await whole(api)
    assert refused.value.status == 401
    assert [asked.target.rpartition("/")[2] for asked in server.requests] == ["token", "here"]
    assert len(elsewhere.requests) == 1


PLAIN = ("http://192.0.2.1:9", "HTTP://192.0.2.1:9/base", "http://localhost.example:9", "http://[2001:db8::1]:9")


@TRANSPORTS
@pytest.mark.parametrize("url", PLAIN)
async def test_no_credential_is_got_or_sent_over_plain_http(url: str, make: Callable[[], Transport], tmp_path: Path):
    """TEST-NET addresses lead nowhere: what is tried would wait or fail otherwise."""
    ran = tmp_path / "ran"
    command = shlex.join([sys.executable, "-c", f"open({str(ran)!r}, 'w'); print({KEY!r})"])
    for given in ({"api_key": KEY}, {"api_key": TOKEN}, {"credential_cmd": command}):
        config = Config.load(base_url=url, environ={}, **given, **ACCESS)
        transport = make()
        with pytest.raises(InvalidInput, match="allow_plain_http") as refused:
            async with open_runtime(config=config, transport=transport):
                raise AssertionError("opened")
        assert "planted" not in str(refused.value)
        await transport.aclose()
    assert not ran.exists()


@TRANSPORTS
async def test_with_leave_a_key_goes_over_plain_http(make: Callable[[], Transport], monkeypatch: pytest.MonkeyPatch):
    async with loopback() as server:
        transport = make()
        # loopback goes without leave, so this machine passes for another one
        monkeypatch.setattr("tinker_actors.wire.urls.is_loopback", lambda host: False)
        for given in ({}, {"allow_plain_http": False}, {"allow_plain_http": True}):
            config = Config.load(base_url=server.url, api_key=KEY, environ={}, **given)
            if given.get("allow_plain_http"):
                await submitted(Api(transport, config))
            else:
                with pytest.raises(InvalidInput, match="allow_plain_http"):
                    Api(transport, config)
        await transport.aclose()
    (asked,) = server.requests
    assert asked.headers["x-api-key"] == KEY
