"""The page on transports: its code runs as it stands and keeps to the page's own rules; and a custom CA."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.testing.echo import Echo
from tests.wire.loopback import loopback
from tinker_actors import Config, open_runtime
from tinker_actors.errors import APIConnectionError, APIResponseError, APITimeoutError
from tinker_actors.ports import Request
from tinker_actors.runtime.settings import make_transport
from tinker_actors.wire.transport import HttpTransport

GUIDE = Path(__file__).parents[2] / "docs" / "transport.md"


def code() -> dict[str, Any]:
    text = GUIDE.read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    namespace: dict[str, Any] = {"__name__": "guide"}
    for block in blocks:
        line = text[: text.index(block)].count("\n")
        exec(compile("\n" * line + block, str(GUIDE), "exec"), namespace)
    return namespace


def post(path: str, *body: bytes, **options: Any) -> Request:
    return Request(method="POST", url=f"https://server{path}", headers=(("x-key", "k"),), body=body, **options)


class Stream:
    size = None
    again = False

    def __init__(self) -> None:
        self.closed = False

    async def pieces(self) -> AsyncGenerator[bytes]:
        try:
            yield b"ab"
            yield b"cdef"
        finally:
            self.closed = True


async def test_the_page_trains_through_its_own_transports(capsys: pytest.CaptureFixture[str]):
    with trio.fail_after(60):
        counting = await code()["main"]()
    found = re.fullmatch(r"loss (\d+\.\d\d), (\d+) requests of training\n", capsys.readouterr().out)
    assert found is not None
    assert float(found[1]) > 0
    assert counting.seen["train", "200"] == int(found[2]) > 0
    assert counting.seen["session", "200"] > 0
    assert counting.seen["poll", "200"] > 0
    assert all(outcome != "lost" and outcome != "not sent" for _, outcome in counting.seen)


async def test_the_pages_transport_keeps_to_the_page(autojump_clock: trio.testing.MockClock):
    names = code()
    echo = Echo()
    transport = names["Counting"](names["InProcess"](echo))

    response = await transport.send(post("/echo%20x?a=1", b"abc", b"def"))
    assert (response.status, response.headers["x-length"]) == (200, "6")
    assert [await response.read(6), await response.read(6)] == [b"abcdef", b""]
    assert (echo.scopes[0]["path"], echo.scopes[0]["query_string"]) == ("/echo x", b"a=1")
    assert (b"x-key", b"k") in echo.scopes[0]["headers"]

    with pytest.raises(APIResponseError):
        await (await transport.send(post("/echo", b"abcdef"))).read(5)
    streamed = Stream()
    response = await transport.send(post("/echo", stream=streamed))
    assert [piece async for piece in response.stream()] == [b"abcdef"]
    assert streamed.closed
    given_up = await transport.send(post("/echo", b"abcdef"))
    await given_up.aclose()
    assert await given_up.read(6) == b""

    with pytest.raises(APITimeoutError) as timeout:
        await transport.send(post("/hang", b"abc", timeout=5.0))
    assert timeout.value.sent
    for path in ("/cut", "/broken"):
        with pytest.raises(APIConnectionError) as lost:
            await transport.send(post(path, b"abcdef"))
        assert lost.value.sent
    with trio.move_on_after(1) as scope:
        await transport.send(post("/hang", b"abc"))
    assert scope.cancelled_caught
    await transport.aclose()
    await transport.aclose()
    with pytest.raises(APIConnectionError) as closed:
        await transport.send(post("/echo"))
    assert not closed.value.sent
    assert transport.seen == {
        ("rest", "200"): 4,
        ("rest", "lost"): 3,
        ("rest", "given up"): 1,
        ("rest", "not sent"): 1,
    }


# a certificate authority of one's own


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The certificate of an authority, and a server's that it has signed, with its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make certificates with")
    place = tmp_path_factory.mktemp("authority")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=place, check=True, capture_output=True, timeout=60)

    fresh = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("req", "-x509", *fresh, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=our own authority")
    run("req", *fresh, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    (place / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    run("x509", "-req", "-in", "server.csr", *signed, "-out", "server.pem")
    server = place / "both.pem"
    server.write_text((place / "server.key").read_text() + (place / "server.pem").read_text())
    return place / "ca.pem", server


@pytest.mark.parametrize("how", ["the context", "the environment", "nobody"])
async def test_an_authority_of_ones_own_is_trusted_where_it_is_given(
    how: str, authority: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    ca, server_certificate = authority
    if how == "the environment":
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    context = ssl.create_default_context(cafile=ca) if how == "the context" else None
    async with loopback(tls=True, certificate=server_certificate) as server:
        transport = HttpTransport(ssl_context=context)
        request = Request(method="GET", url=f"{server.url}/healthz")
        if how == "nobody":
            with pytest.raises(APIConnectionError, match=r"self-signed|self signed|unable to get") as refused:
                await transport.send(request)
            assert not refused.value.sent
            assert server.requests == []
        else:
            assert await (await transport.send(request)).read(10) == b"{}"
        await transport.aclose()


async def test_the_environments_authority_counts_behind_a_proxy_too(
    authority: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    ca, server_certificate = authority
    async with loopback(tls=True, certificate=server_certificate) as server, trio.open_nursery() as nursery:
        proxy = await nursery.start(tunnel)
        settings = Config.load(
            api_key="tml-test", environ={}, base_url=server.url, proxy=f"http://user:word@127.0.0.1:{proxy}"
        )
        request = Request(method="GET", url=f"{server.url}/healthz")
        untrusting = make_transport(settings)
        with pytest.raises(APIConnectionError) as refused:
            await untrusting.send(request)
        assert not refused.value.sent
        await untrusting.aclose()
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        trusting = make_transport(settings)
        assert await (await trusting.send(request)).read(10) == b"{}"
        await trusting.aclose()
        nursery.cancel_scope.cancel(reason="the test is over")


async def tunnel(task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
    """A proxy that opens every tunnel it is asked for."""

    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        async for data in source:
            await sink.send_all(data)

    async def serve(client: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await client.receive_some(4096)
        host, _, port = head.split()[1].decode().rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as server, trio.open_nursery() as nursery:
            await client.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            nursery.start_soon(pump, server, client)
            await pump(client, server)
            nursery.cancel_scope.cancel(reason="the client has closed")

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listener.socket.getsockname()[1])
        await trio.serve_listeners(serve, [listener], handler_nursery=nursery)


async def test_a_runtime_leaves_a_transport_of_the_users_open():
    async with loopback() as server:
        transport = HttpTransport()
        async with open_runtime(base_url=server.url, api_key="tml-test", transport=transport):
            pass
        assert await (await transport.send(Request(method="GET", url=server.url))).read(10) == b"{}"
        await transport.aclose()
