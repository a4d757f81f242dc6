"""What a transport's pools say of themselves, and that polls can't starve anything else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, get_args

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.wire.loopback import Loopback, Peer, loopback
from tests.wire.test_pool import FakeServer
from tinker_actors import types as ta
from tinker_actors.config import Config
from tinker_actors.errors import InvalidInput
from tinker_actors.ports import Purpose, Request, Transport
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints.futures import retrieve_future
from tinker_actors.wire.endpoints.sampling import asample
from tinker_actors.wire.endpoints.sessions import session_heartbeat
from tinker_actors.wire.endpoints.training import optim_step
from tinker_actors.wire.httpx_transport import HttpxTransport
from tinker_actors.wire.link import LinkBroken
from tinker_actors.wire.pool import Pool, PoolStatistics
from tinker_actors.wire.transport import HttpTransport

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
BOUND = 3


async def test_each_request_is_counted_where_it_is(autojump_clock: MockClock):
    server = FakeServer()
    pool = Pool(server.connect, limit=2, keep=2)
    leave = trio.Event()

    async def one() -> None:
        connection = await pool.acquire()
        await leave.wait()
        pool.release(connection)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one)
        await wait_all_tasks_blocked()
        assert pool.statistics() == PoolStatistics(limit=2, opening=2, waiting=3)
        await trio.sleep(10)
        assert pool.statistics() == PoolStatistics(limit=2, in_use=2, waiting=3)
        assert (pool.statistics().open, pool.statistics().requests) == (2, 5)
        leave.set()
    assert pool.statistics() == PoolStatistics(limit=2, idle=2)
    assert (pool.statistics().open, pool.statistics().requests) == (2, 0)


async def test_a_closed_pool_has_nothing_left(autojump_clock: MockClock):
    server = FakeServer()
    pool = Pool(server.connect, limit=2, keep=2)
    held = [await pool.acquire(), await pool.acquire()]

    async def one() -> None:
        with pytest.raises(LinkBroken, match="closed by this client"):
            await pool.acquire()

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(one)
        await wait_all_tasks_blocked()
        # in one step: one who waits has a connection, another has leave to open one, and then all is over
        pool.release(held[0])
        pool.discard(held[1])
        pool.close()
    assert pool.statistics() == PoolStatistics(limit=2)
    assert server.open == 0


def post(url: str, purpose: Purpose) -> Request:
    return Request(method="POST", url=f"{url}/x", purpose=purpose, timeout=10)


async def test_a_transport_tells_of_every_purpose_over_all_hosts():
    transport = HttpTransport(limits={"train": 5})
    unused = transport.statistics()
    assert set(unused) == set(PURPOSES)
    assert unused["train"] == PoolStatistics(limit=5)
    async with loopback() as one, loopback() as other:
        for server in (one, other):
            response = await transport.send(post(server.url, "train"))
            assert await response.read(10) == b"{}"
        assert transport.statistics() == unused | {"train": PoolStatistics(limit=5, idle=2)}
        response = await transport.send(post(one.url, "train"))
        assert transport.statistics()["train"] == PoolStatistics(limit=5, idle=1, in_use=1)
        await response.aclose()
        assert transport.statistics()["train"] == PoolStatistics(limit=5, idle=1)
    await transport.aclose()


@pytest.mark.parametrize("limits", [{"poll": 0}, {"poll": -1}, {"poll": 1.5}, {"poll": True}, {"pool": 4}])
def test_a_limit_that_nothing_could_pass_is_refused(limits: Any):
    with pytest.raises(InvalidInput, match="limits"):
        HttpTransport(limits=limits)
    with pytest.raises(InvalidInput, match="limits"):
        HttpxTransport(httpx.AsyncClient(), limits=limits)


async def holding(peer: Peer) -> None:
    """Answers everything but polls, which are held for as long as the client waits."""
    while (request := await peer.request()) is not None:
        if request.target.endswith("/retrieve_future"):
            await peer.closed()
            return
        await peer.reply(body=b'{"request_id":"r","type":"session_heartbeat"}')


def sample(number: int) -> ta.SampleRequest:
    prompt = ta.ModelInput.from_ints([1])
    return ta.SampleRequest(
        prompt=prompt, sampling_params=ta.SamplingParams(max_tokens=1), sampling_session_id="s", seq_id=number
    )


SUBMITS: dict[str, Callable[[Api, int], Awaitable[Any]]] = {
    "heartbeat": lambda api, number: session_heartbeat(api, "s"),
    "optim_step": lambda api, number: optim_step(
        api, ta.OptimStepRequest(model_id="m", seq_id=number, adam_params=ta.AdamParams()), key=f"k{number}"
    ),
    "asample": lambda api, number: asample(api, sample(number), key=f"k{number}"),
}


async def polls_up_to(server: Loopback, count: int) -> None:
    while sum(request.target.endswith("/retrieve_future") for request in server.requests) < count:
        await server.changed.wait()


async def everything_but_polls(transport: Transport, server: Loopback, nursery: trio.Nursery) -> None:
    """Has more polls under way than their pool takes, and then asks for everything else."""
    api = Api(transport, Config.load(base_url=server.url, api_key="tml-test", environ={}))

    async def poll(number: int) -> None:
        await retrieve_future(
            api, f"r{number}", ta.OptimStepResponse, iteration=0, request_type="OptimStep", timeout=60.0
        )

    for number in range(BOUND + 4):
        nursery.start_soon(poll, number)
    await polls_up_to(server, BOUND)
    await wait_all_tasks_blocked(0.01)
    answered = 0
    with trio.move_on_after(5):
        for number in range(1, 2 * BOUND):
            for submit in SUBMITS.values():
                await submit(api, number)
                answered += 1
    assert answered == (2 * BOUND - 1) * len(SUBMITS)
    asked = [request.target.rpartition("/")[2] for request in server.requests]
    assert asked.count("retrieve_future") == BOUND  # all that their pool takes, and those are still held


async def test_polls_through_a_client_of_the_users_starve_nobody_either():
    transport = HttpxTransport(httpx.AsyncClient(), limits={"poll": BOUND})
    async with loopback(holding) as server, trio.open_nursery() as nursery:
        await everything_but_polls(transport, server, nursery)
        nursery.cancel_scope.cancel(reason="the polls were held")
    await transport.aclose()


async def test_polls_that_are_held_never_keep_a_beat_or_a_submission_waiting():
    transport = HttpTransport(limits={"poll": BOUND})
    async with loopback(holding) as server, trio.open_nursery() as nursery:
        await everything_but_polls(transport, server, nursery)
        found = transport.statistics()
        assert found["poll"] == PoolStatistics(limit=BOUND, in_use=BOUND, waiting=4)
        assert found["poll"].requests == BOUND + 4
        for purpose in ("session", "train", "sample"):
            assert (found[purpose].idle, found[purpose].requests) == (1, 0)
        nursery.cancel_scope.cancel(reason="the polls were held")
    assert transport.statistics()["poll"] == PoolStatistics(limit=BOUND)
    await transport.aclose()
