"""The pool: never above its limit, first come first served, and nothing lost to cancellation, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tinker_actors.wire.connection import Connection
from tinker_actors.wire.link import Buffer, Link, LinkBroken
from tinker_actors.wire.pool import Pool


class FakeLink(Link):
    """Counts what is open."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self.closed = False

    @property
    def wrote(self) -> bool:
        return False

    @property
    def stale(self) -> bool:
        return False

    async def send(self, buffers: Sequence[Buffer]) -> None:
        raise AssertionError

    async def receive(self, most: int) -> bytes:
        raise AssertionError

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._server.open -= 1


class FakeServer:
    """Takes ``delay`` virtual seconds to connect to, and fails ``failing`` of the times."""

    def __init__(self, rng: random.Random | None = None, *, delay: float = 1.0, failing: float = 0.0) -> None:
        self.rng = rng or random.Random(1)
        self.delay = delay
        self.failing = failing
        self.open = self.most = self.connecting = self.most_connecting = self.connects = 0

    async def connect(self) -> Connection:
        self.open += 1
        self.connecting += 1
        self.connects += 1
        self.most = max(self.most, self.open)
        self.most_connecting = max(self.most_connecting, self.connecting)
        try:
            await trio.sleep(self.delay * self.rng.random())
            if self.rng.random() < self.failing:
                raise LinkBroken("refused")
        except BaseException:
            self.open -= 1
            raise
        finally:
            self.connecting -= 1
        connection = Connection(FakeLink(self))
        connection.keep_until = trio.current_time() + 4.0
        return connection


@pytest.mark.parametrize("seed", range(30))
async def test_a_storm_loses_no_connection_and_leaves_nobody_waiting(seed: int, autojump_clock: MockClock):
    rng = random.Random(seed)
    limit = rng.choice([1, 2, 7, 40])
    server = FakeServer(rng, delay=rng.choice([0.0, 1.0, 5.0]), failing=rng.choice([0.0, 0.3, 1.0]))
    pool = Pool(server.connect, limit=limit, keep=rng.choice([1, limit]))
    ended = 0

    async def one() -> None:
        nonlocal ended
        await trio.sleep(rng.random() * 5)
        with trio.move_on_after(rng.choice([0.0, 0.5, 3.0, 1e6])):
            try:
                connection = await pool.acquire()
            except LinkBroken:
                pass
            else:
                try:
                    await trio.sleep(rng.random())
                finally:
                    if rng.random() < 0.7:
                        connection.keep_until = trio.current_time() + rng.choice([0.0, 4.0])
                        pool.release(connection)
                    else:
                        pool.discard(connection)
        ended += 1

    with trio.fail_after(10_000):
        async with trio.open_nursery() as nursery:
            for _ in range(150):
                nursery.start_soon(one)
        assert ended == 150
        assert server.most <= limit
        assert pool.open == pool.idle == server.open
        server.failing = 0.0
        for connection in [await pool.acquire() for _ in range(limit)]:  # all of them can still be had
            pool.release(connection)
    pool.close()
    assert server.open == 0


async def test_who_comes_first_is_served_first(autojump_clock: MockClock):
    server = FakeServer()
    pool = Pool(server.connect, limit=1, keep=1)
    held = await pool.acquire()
    order: list[int] = []

    async def one(number: int) -> None:
        connection = await pool.acquire()
        order.append(number)
        pool.release(connection)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(one, number)
            await wait_all_tasks_blocked()
        pool.release(held)
    assert order == [0, 1, 2, 3, 4]
    assert server.connects == 1


@pytest.mark.parametrize("give_back", [True, False])
async def test_who_is_cancelled_as_it_is_served_passes_it_on(give_back: bool, autojump_clock: MockClock):
    server = FakeServer()
    pool = Pool(server.connect, limit=1, keep=1)
    held = await pool.acquire()
    served: list[str] = []

    async def one(name: str, scope: trio.CancelScope) -> None:
        with scope:
            connection = await pool.acquire()
            served.append(name)
            pool.release(connection)

    scope = trio.CancelScope()
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "cancelled", scope)
            await wait_all_tasks_blocked()
            nursery.start_soon(one, "next", trio.CancelScope())
            await wait_all_tasks_blocked()
            # in this order, in one step: the waiter is being cancelled when its turn comes
            scope.cancel()
            if give_back:
                pool.release(held)
            else:
                pool.discard(held)
    assert served == ["next"]
    assert pool.open == pool.idle == 1


async def test_a_failed_connection_is_its_own_callers_and_the_next_tries_again(autojump_clock: MockClock):
    server = FakeServer(failing=1.0)
    pool = Pool(server.connect, limit=1, keep=1)
    failed = 0

    async def one() -> None:
        nonlocal failed
        with pytest.raises(LinkBroken, match="refused"):
            await pool.acquire()
        failed += 1

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one)
    assert (failed, server.connects) == (5, 5)


async def test_quick_servers_are_served_with_few_connections_and_slow_ones_get_one_each(autojump_clock: MockClock):
    async def run(holding: float) -> FakeServer:
        server = FakeServer(delay=0.1)
        pool = Pool(server.connect, limit=2000, keep=2000)

        async def one() -> None:
            connection = await pool.acquire()
            await trio.sleep(holding)
            pool.release(connection)

        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(one)
        pool.close()
        return server

    assert (await run(0.001)).connects <= 100
    slow = await run(30.0)
    assert slow.connects == 1000
    assert slow.most_connecting <= 512  # twice as many after each round, not all at once


async def test_idle_connections_grow_old_and_only_so_many_are_kept(autojump_clock: MockClock):
    server = FakeServer(delay=0.0)
    pool = Pool(server.connect, limit=10, keep=3)
    for connection in [await pool.acquire() for _ in range(10)]:
        pool.release(connection)
    assert pool.idle == pool.open == server.open == 3
    await trio.sleep(5)
    pool.expire(trio.current_time())
    assert pool.open == server.open == 0


async def test_closing_wakes_who_waits_and_closes_what_is_on_its_way(autojump_clock: MockClock):
    server = FakeServer()
    pool = Pool(server.connect, limit=2, keep=2)
    errors: list[str] = []

    async def one() -> None:
        with pytest.raises(LinkBroken) as caught:
            await pool.acquire()
        errors.append(str(caught.value))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(one)
        await wait_all_tasks_blocked()
        pool.close()
    await one()
    assert errors == ["closed by this client"] * 5
    assert server.open == 0
