"""Redirects: followed a few times, and a key stays with its host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.loopback import Loopback, Peer, loopback
from tests.wire.scripted import KEY, Answer, scripted
from tinker_actors.config import Config
from tinker_actors.errors import APIConnectionError, APIStatusError, APITimeoutError
from tinker_actors.ports import Request, Transport
from tinker_actors.wire.api import Api
from tinker_actors.wire.httpx_transport import HttpxTransport
from tinker_actors.wire.redirects import redirected
from tinker_actors.wire.transport import HttpTransport

TOKEN = "planted-weights-token"
OWN = (
    ("x-api-key", KEY),
    ("accept", "application/json"),
    ("x-tinker-weights-access-token", TOKEN),
    ("x-team", "blue"),
)


def request(url: str = "https://a.example/api/v1/x", method: str = "GET") -> Request:
    return Request(method=method, url=url, headers=OWN, body=(b"{}",) if method == "POST" else ())


def follow(asked: Request, location: str, status: int = 302) -> Request | str:
    return redirected(asked, status, location, timeout=1.0)


@pytest.mark.parametrize(
    ("start", "location", "carried"),
    [
        ("https://a.example/x", "/y?z=1", True),
        ("https://a.example/x", "https://a.example:443/y", True),
        ("https://A.example/x", "https://a.EXAMPLE/y", True),
        ("http://a.example/x", "https://a.example/y", True),
        ("https://a.example/x", "https://b.example/y", False),
        ("https://a.example/x", "//b.example/y", False),
        ("https://a.example/x", "https://a.example:8443/y", False),
        ("https://a.example/x", "http://a.example/y", False),
        ("https://a.example/x", "https://a.example.evil/y", False),
        ("http://127.0.0.1:1/x", "http://127.0.0.1:2/y", False),
    ],
)
def test_only_the_same_host_gets_the_key(start: str, location: str, carried: bool):
    following = follow(request(start), location)
    assert isinstance(following, Request)
    assert following.headers == (OWN if carried else (("accept", "application/json"),))


@pytest.mark.parametrize(
    ("method", "status", "location"),
    [
        ("GET", 302, ""),
        ("GET", 302, "ftp://a.example/y"),
        ("GET", 302, "file:///etc/passwd"),
        ("GET", 302, "https://u:p@a.example/y"),
        ("GET", 302, "https://[::/y"),
        ("GET", 302, "https://a.example:0/y"),
        ("GET", 302, "https://a.example:99999/y"),
        ("POST", 301, "/y"),
        ("POST", 302, "/y"),
        ("POST", 303, "/y"),
        ("POST", 307, "https://b.example/y"),
        ("DELETE", 302, "/y"),
    ],
)
def test_what_can_not_be_followed_is_said(method: str, status: int, location: str):
    assert isinstance(follow(request(method=method), location, status), str)


_PARTS = ["https:", "http:", "HTTPS:", "javascript:", "//", "/", "\\", ":443", ":80", ":", "@", "?", "#", ";", ".."]
_PARTS += [
    "a.example",
    "A.EXAMPLE",
    "b.example",
    "xn--",
    "[::1]",
    "[",
    "]",
    "user",
    "%2f",
    "%00",
    " ",
    "\t",
    "\n",
    "\0",
]
_PLACES = st.builds(
    "{}//{}{}{}".format,
    st.sampled_from(["https:", "http:", "HTTP:", ""]),
    st.sampled_from(
        ["a.example", "A.example", "b.example", "a.example@b.example", "b.example\\@a.example", "a.example."]
    ),
    st.sampled_from(["", ":80", ":443", ":8080"]),
    st.sampled_from(["", "/", "/y?z=1", "?@b.example", "#@b.example"]),
)
LOCATIONS = st.one_of(_PLACES, st.text(), st.lists(st.sampled_from(_PARTS), max_size=8).map("".join))
STARTS = {
    "https://a.example/x": ("https", 443),
    "http://a.example/x": ("http", 80),
    "http://a.example:8080/x": ("http", 8080),
}


@given(st.sampled_from(sorted(STARTS)), LOCATIONS, st.sampled_from(["GET", "POST"]), st.sampled_from([302, 303, 307]))
@example("https://a.example/x", "https://a.example\\@b.example/", "GET", 302)
def test_wherever_a_server_points_to_the_key_stays(start: str, location: str, method: str, status: int):
    """Judged by another reader of URLs than ours, too: whoever sends the request may see a host in what we don't."""
    following = follow(request(start, method), location, status)
    if isinstance(following, str):
        return
    assert following.url.isascii()
    assert following.url.isprintable()
    assert " " not in following.url
    try:
        theirs = httpx.URL(following.url)
        host = theirs.host
    except (httpx.InvalidURL, UnicodeError):  # nobody is asked at all
        return
    scheme, port = STARTS[start]
    place = (theirs.scheme, theirs.port or {"http": 80, "https": 443}[theirs.scheme])
    up = (scheme, port) == ("http", 80) and place == ("https", 443)
    here = host == "a.example" and (place == (scheme, port) or up)
    assert here or (following.headers == (("accept", "application/json"),) and not following.body)
    assert not theirs.userinfo


@pytest.mark.parametrize("make", [HttpTransport, lambda: HttpxTransport(httpx.AsyncClient())], ids=["own", "httpx"])
@pytest.mark.parametrize(
    "location",
    [
        "http://a..b/",
        f"http://{'a' * 64}.b/",
        "http://xn--/",
        "http://é.example/",
        "http://\u2024/",
        "http://a\0b/",
        "http://[v1.a]/",
        "http://127.0.0.1:9/a b",
        "http://127.0.0.1:9/é\x7f",
    ],
)
async def test_a_place_that_no_host_has_is_a_connection_error(location: str, make: Callable[[], Transport]):
    following = follow(request(), location)
    assert isinstance(following, Request)
    transport = make()
    with pytest.raises(APIConnectionError) as caught:
        await transport.send(following)
    assert not caught.value.sent
    await transport.aclose()


@pytest.mark.parametrize("status", [307, 308])
def test_what_was_sent_is_sent_again_where_the_status_says_so(status: int):
    asked = request(method="POST")
    following = follow(asked, "/y", status)
    assert isinstance(following, Request)
    assert (following.url, following.method, following.body) == ("https://a.example/y", "POST", asked.body)


async def test_the_api_follows_and_keeps_to_its_bound():
    moved = Answer({}, 302, {"location": "/services/prod/api/v1/there"})
    async with scripted(moved, Answer({"ok": 1})) as (api, script):
        assert await api.call("/here", dict, method="GET", purpose="rest") == {"ok": 1}
        assert [asked.path.rpartition("/")[2] for asked in script.asked] == ["here", "there"]
        assert all(asked.headers["x-api-key"] == KEY for asked in script.asked)
    async with scripted(moved) as (api, script):
        with pytest.raises(APIStatusError, match="more than 5 redirects"):
            await api.call("/here", dict, method="GET", purpose="rest")
        assert len(script.asked) == 6
    async with scripted(Answer({}, 302, {"location": f"https://{KEY}.example/"})) as (api, script):
        with pytest.raises(APIStatusError, match="base_url") as caught:
            await api.call("/here", dict, {}, purpose="rest")
        assert KEY not in str(caught.value)
        assert caught.value.status == 302


async def test_another_host_never_sees_the_key_on_the_wire():
    async with loopback() as elsewhere, loopback(redirecting(lambda: elsewhere)) as server:
        transport = HttpTransport()
        config = Config.load(
            base_url=server.url, api_key=KEY, environ={}, default_headers={"authorization": f"Bearer {TOKEN}"}
        )
        reply = await Api(transport, config).exchange(
            "GET", "/archive", purpose="rest", headers=(("x-tinker-weights-access-token", TOKEN),)
        )
        await transport.aclose()
    assert reply.body == b"{}"
    assert server.requests[0].headers["x-api-key"] == KEY
    (seen,) = elsewhere.requests
    assert KEY not in str(seen)
    assert TOKEN not in str(seen)


async def test_redirects_share_one_time(autojump_clock: Any):
    async def slow(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await trio.sleep(4)
        await send({"type": "http.response.start", "status": 302, "headers": [(b"location", b"/again")]})
        await send({"type": "http.response.body", "body": b""})

    async with scripted(Answer({}), application=slow) as (api, _):
        started = trio.current_time()
        with pytest.raises(APITimeoutError):
            await api.exchange("GET", "/x", purpose="rest", timeout=10.0)
        assert trio.current_time() - started == pytest.approx(10.0)


def redirecting(target: Callable[[], Loopback]) -> Callable[[Peer], Awaitable[None]]:
    async def serve(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.reply(302, b"", location=f"{target().url}/elsewhere")

    return serve
