from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from tests.testing.echo import Echo
from tinker_actors.errors import APIConnectionError, APIResponseError, APITimeoutError
from tinker_actors.ports import Request
from tinker_actors.testing.network import Network, open_network

BODY = b"0123456789"


def post(path: str = "/echo", body: bytes = BODY, timeout: float = 10.0) -> Request:
    return Request(
        method="POST",
        url=f"http://server:8000{path}?a=1",
        headers=(("x-key", "k"),),
        body=(body[:4], memoryview(body)[4:]),
        timeout=timeout,
    )


async def exchange(network: Network, request: Request) -> bytes:
    response = await network.transport().send(request)
    return await response.read(1000)


async def test_a_request_reaches_the_application_and_its_reply_the_client(autojump_clock: MockClock) -> None:
    echo = Echo(work=1.0)
    async with open_network(echo, random=random.Random(1), latency=(0.5, 0.5)) as network:
        response = await network.transport().send(post())
        assert response.status == 200
        assert response.headers["x-length"] == "10"
        assert trio.current_time() == pytest.approx(2.0)  # there, the work, and back
        assert [piece async for piece in response.stream()] == [b"012", b"3456789"]
    (scope,) = echo.scopes
    assert scope["method"] == "POST"
    assert scope["path"] == "/echo"
    assert scope["query_string"] == b"a=1"
    assert (b"x-key", b"k") in scope["headers"]
    assert (b"content-length", b"10") in scope["headers"]
    assert (b"host", b"server:8000") in scope["headers"]
    assert network.statistics().answered == 1
    assert network.statistics().abandoned == 0


async def test_the_server_works_on_when_its_client_is_cancelled(autojump_clock: MockClock) -> None:
    echo = Echo(work=5.0)
    async with open_network(echo, random=random.Random(1)) as network:
        with trio.move_on_after(1.0) as scope:
            await exchange(network, post())
        assert scope.cancelled_caught
        assert echo.done == []
        await trio.sleep(10)
        assert echo.done == [BODY]
        assert network.statistics().abandoned == 1
        assert network.statistics().open == 0


async def test_a_timeout_counts_from_the_start_to_the_last_byte(autojump_clock: MockClock) -> None:
    echo = Echo(work=5.0)
    async with open_network(echo, random=random.Random(1), latency=(0.5, 0.5)) as network:
        with pytest.raises(APITimeoutError) as caught:
            await exchange(network, post(timeout=4.0))
        assert caught.value.sent
        assert trio.current_time() == pytest.approx(4.0)
        with pytest.raises(APITimeoutError) as caught:
            await exchange(network, post(timeout=0.25))
        assert not caught.value.sent  # it never left
        response = await network.transport().send(post("/slow_body", timeout=20))
        begun = trio.current_time() - 6
        with pytest.raises(APITimeoutError):
            await response.read(1000)
        assert trio.current_time() == pytest.approx(begun + 20)
        assert len(echo.done) == 2


async def test_a_client_that_gives_up_is_a_disconnect_to_the_application(autojump_clock: MockClock) -> None:
    echo = Echo()
    async with open_network(echo, random=random.Random(1)) as network:
        with pytest.raises(APITimeoutError):
            await exchange(network, post("/hang", timeout=3))
        await trio.sleep(1)
        assert echo.disconnects == 1


async def test_a_partition_holds_everything_back_until_it_heals(autojump_clock: MockClock) -> None:
    echo = Echo()
    async with open_network(echo, random=random.Random(1), latency=(0.1, 0.1)) as network:
        network.partition()
        with pytest.raises(APITimeoutError):
            await exchange(network, post(timeout=5))
        assert echo.done == []

        async def heal() -> None:
            await trio.sleep(2)
            network.heal()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(heal)
            begun = trio.current_time()
            assert await exchange(network, post(timeout=5)) == BODY
            assert trio.current_time() - begun == pytest.approx(2.1)


async def test_a_partition_holds_replies_back_too(autojump_clock: MockClock) -> None:
    echo = Echo(work=1.0)
    async with open_network(echo, random=random.Random(1), latency=(0.1, 0.1)) as network:

        async def part() -> None:
            await trio.sleep(0.5)
            network.partition()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(part)
            with pytest.raises(APITimeoutError):
                await exchange(network, post(timeout=5))
        assert echo.done == [BODY]


async def test_a_killed_server_resets_refuses_and_comes_back(autojump_clock: MockClock) -> None:
    echo, second = Echo(work=5.0), Echo()
    async with open_network(echo, random=random.Random(1)) as network:

        async def kill() -> None:
            await trio.sleep(1)
            network.kill()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill)
            with pytest.raises(APIConnectionError) as caught:
                await exchange(network, post())
        assert caught.value.sent
        assert trio.current_time() < 2
        with pytest.raises(APIConnectionError) as caught:
            await exchange(network, post())
        assert not caught.value.sent
        network.replace(second)
        assert await exchange(network, post()) == BODY
        await trio.sleep(10)
        assert echo.done == []  # its work died with it
        assert second.done == [BODY]


async def test_an_answer_that_breaks_off_is_a_connection_error(autojump_clock: MockClock) -> None:
    async with open_network(Echo(), random=random.Random(1)) as network:
        with pytest.raises(APIConnectionError):
            await exchange(network, post("/cut"))


async def test_an_application_that_raises_answers_500_and_is_not_forgotten(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="a bug in the application")):
        async with open_network(Echo(), random=random.Random(1)) as network:
            response = await network.transport().send(post("/broken"))
            assert response.status == 500


async def test_a_body_longer_than_the_limit_is_refused(autojump_clock: MockClock) -> None:
    async with open_network(Echo(), random=random.Random(1)) as network:
        response = await network.transport().send(post())
        with pytest.raises(APIResponseError, match="more than 5 bytes"):
            await response.read(5)
        assert network.statistics().abandoned == 1


async def test_the_same_seed_gives_the_same_times(autojump_clock: MockClock) -> None:
    async def times(seed: int) -> list[float]:
        begun = trio.current_time()
        marks: list[float] = []
        async with open_network(Echo(), random=random.Random(seed), latency=(0.01, 1.0)) as network:
            for _ in range(5):
                await exchange(network, post())
                marks.append(round(trio.current_time() - begun, 9))
        return marks

    assert await times(1) == await times(1)
    assert await times(1) != await times(2)


async def test_a_closed_transport_sends_nothing(autojump_clock: MockClock) -> None:
    async with open_network(Echo(), random=random.Random(1)) as network:
        transport = network.transport()
        await transport.aclose()
        with pytest.raises(APIConnectionError) as caught:
            await transport.send(post())
        assert not caught.value.sent
        assert network.statistics().requests == 0
