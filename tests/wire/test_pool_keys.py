"""Which requests share connections: those of one purpose to one place, however its URL is written."""

from __future__ import annotations

from typing import get_args

import pytest
import trio

from tests.wire.loopback import Peer, loopback
from tinker_actors.ports import Purpose, Request
from tinker_actors.wire.pool import Pool
from tinker_actors.wire.transport import HttpTransport, _Place


def pool(transport: HttpTransport, url: str, purpose: Purpose = "train") -> Pool:
    return transport._pool(purpose, _Place(url))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://host/a/b?c", "http://host/d", True),
        ("http://host", "http://host:80/", True),
        ("https://host:443/x", "https://host", True),
        ("http://HOST.example", "http://host.Example:80", True),
        ("http://[::1]:8000/a", "http://[::1]:8000", True),
        ("http://host", "https://host", False),
        ("http://host:8000", "http://host", False),
        ("http://host", "http://host.other", False),
    ],
)
def test_a_place_is_a_scheme_a_host_and_a_port(one: str, other: str, same: bool):
    transport = HttpTransport()
    assert (pool(transport, one) is pool(transport, other)) is same


def test_each_purpose_has_a_pool_of_its_own():
    transport = HttpTransport()
    pools = [pool(transport, "http://host", purpose) for purpose in get_args(Purpose)]
    assert len(set(map(id, pools))) == len(get_args(Purpose)) == 6
    assert [pool(transport, "http://host", purpose) for purpose in get_args(Purpose)] == pools


async def test_a_limit_for_one_purpose_leaves_the_others_alone():
    open_now, most = 0, 0
    both = trio.Event()

    async def handler(peer: Peer) -> None:
        nonlocal open_now, most
        while await peer.request() is not None:
            open_now += 1
            most = max(most, open_now)
            if open_now == 2:
                both.set()
            with trio.move_on_after(0.2):
                await both.wait()
            open_now -= 1
            await peer.reply()

    async with loopback(handler) as server:
        transport = HttpTransport(limits={"sample": 1})

        async def send(purpose: Purpose) -> None:
            response = await transport.send(Request(method="GET", url=f"{server.url}/x", purpose=purpose))
            await response.read(10)

        for purpose, expected in (("sample", 1), ("train", 2)):
            most = 0
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, purpose)
                nursery.start_soon(send, purpose)
            assert most == expected, purpose
        await transport.aclose()
