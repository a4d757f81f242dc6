"""What a Config asks of the runtime as a whole."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing

from tests.wire.loopback import Peer, loopback
from tinker_actors import Config, InvalidInput, open_runtime
from tinker_actors.ports import Purpose, Request, Response
from tinker_actors.runtime.settings import make_transport, pool_limits
from tinker_actors.wire.transport import HttpTransport


def config(**options: object) -> Config:
    given: dict[str, Any] = {"api_key": "tml-test", "environ": {}, "base_url": "http://127.0.0.1:1"} | options
    return Config.load(**given)


class Own:
    """A transport of a user's."""

    def __init__(self) -> None:
        self.closed = False

    async def send(self, request: Request) -> Response:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.closed = True


shared = Own()


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    found = logging.getLogger("tinker_actors")
    before = found.level
    yield found
    found.setLevel(before)


async def test_a_level_is_set_and_none_leaves_it(logger: logging.Logger):
    logger.setLevel(logging.CRITICAL)
    async with open_runtime(config=config()):
        assert logger.level == logging.CRITICAL
    async with open_runtime(config=config(log_level="debug")):
        assert logger.level == logging.DEBUG


async def test_the_users_own_transport_is_used_and_left_open():
    own = Own()
    assert make_transport(config(http_client=own)) is own
    async with open_runtime(config=config(http_client=own)):
        pass
    assert not own.closed


def test_a_transport_can_be_named():
    assert make_transport(config(http_client=f"{__name__}:shared")) is shared
    assert isinstance(make_transport(config(http_client=f"{__name__}:Own")), Own)
    assert isinstance(make_transport(config()), HttpTransport)


@pytest.mark.parametrize("name", ["no_such_module:x", f"{__name__}:nothing", "math:pi", "os:getcwd", "a b"])
def test_a_name_that_leads_to_no_transport(name: str):
    with pytest.raises(InvalidInput, match="http_client"):
        make_transport(config(http_client=name))


def test_the_number_of_connections_follows_size_and_count():
    assert pool_limits(config()) == {}
    assert pool_limits(config(pool_size=50)) == {"sample": 1000, "poll": 250}
    assert pool_limits(config(pool_count=20)) == {"sample": 1000, "poll": 250}
    assert pool_limits(config(pool_count=2)) == {"sample": 100, "poll": 25}
    assert pool_limits(config(pool_size=1, pool_count=1)) == {"sample": 1, "poll": 1}


async def test_requests_go_through_the_proxy_with_its_login():
    async with loopback() as proxy:
        given = f"http://user:planted-password@127.0.0.1:{proxy.port}"
        settings = Config.load(
            api_key="tml-test", environ={"TINKEX_PROXY": given}, base_url="http://127.0.0.1:9/base"
        )
        transport = make_transport(settings)
        response = await transport.send(Request(method="GET", url="http://127.0.0.1:9/base/x", headers=(("a", "b"),)))
        assert (response.status, await response.read(10)) == (200, b"{}")
        await transport.aclose()
        (asked,) = proxy.requests
        assert asked.target == "http://127.0.0.1:9/base/x"
        assert asked.headers["proxy-authorization"] == "Basic dXNlcjpwbGFudGVkLXBhc3N3b3Jk"
        assert asked.headers["a"] == "b"


async def test_the_number_of_connections_counts_through_a_proxy_too():
    """One sample at a time, so nobody sees the second before the first is answered; listings go beside it."""
    order: list[str] = []
    held = trio.Event()

    async def handler(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            order.append(request.target.rpartition("/")[2])
            if "sample" in request.target:
                await held.wait()
            await peer.reply()

    async def ask(path: str, purpose: Purpose) -> None:
        request = Request(method="POST", url=f"http://127.0.0.1:9/{path}", purpose=purpose)
        assert await (await transport.send(request)).read(10) == b"{}"

    async with loopback(handler) as proxy:
        transport = make_transport(config(proxy=f"http://127.0.0.1:{proxy.port}", pool_size=1, pool_count=1))
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(ask, "sample", "sample")
                await trio.testing.wait_all_tasks_blocked(0.05)
                for _ in range(3):
                    await ask("list", "rest")
                held.set()
        assert order == ["sample", "list", "list", "list", "sample", "sample"]
        await transport.aclose()


async def test_a_proxy_elsewhere_sees_no_key_unless_allowed():
    leaky = {"proxy": "http://proxy.example:3128", "base_url": "http://127.0.0.1:9"}
    for url in (leaky["base_url"], "HTTP://127.0.0.1:9"):
        with pytest.raises(InvalidInput, match="would see the key"):
            make_transport(config(**leaky | {"base_url": url}))
    for options in (leaky | {"allow_plain_http": True}, leaky | {"base_url": "https://server"}):
        await make_transport(config(**options)).aclose()


def test_a_transport_of_the_users_needs_no_proxy():
    own = Own()
    assert make_transport(config(http_client=own, proxy="http://proxy.example:3128")) is own
