"""Thousands of samples at once against a server that refuses, delays and drops: all come through, fairly."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import trio

from supervision.testing import run_seeded
from tests.clients.odd_server import OddServer
from tinker_actors.clients import SamplingClient
from tinker_actors.config import Config
from tinker_actors.errors import APIConnectionError
from tinker_actors.ports import InlineOffload, Request, Response, Transport
from tinker_actors.runtime import Runtime, open_runtime
from tinker_actors.testing.network import Message, open_network
from tinker_actors.types import ModelInput, SamplingParams

CAPACITY = 300  # samples that the server takes at a time; it answers 429 to the rest
PROMPT = ModelInput.from_ints([1, 2, 3])


class BusyServer(OddServer):
    """Takes ``CAPACITY`` samples at a time, each for a while; tells of the rest that there are too many."""

    def __init__(self) -> None:
        super().__init__({}, [])
        self.rng = random.Random(5)
        self.now = self.most = self.refused = 0
        self.ends: list[float] = []

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        self._asked.clear()
        while self.ends and self.ends[0] <= trio.current_time():
            self.now -= 1
            del self.ends[0]
        if scope["path"].endswith("/asample"):
            if self.now >= CAPACITY:
                self.refused += 1
                await receive()
                await send({"type": "http.response.start", "status": 429, "headers": [(b"retry-after", b"1")]})
                await send({"type": "http.response.body", "body": msgspec.json.encode({"detail": "busy"})})
                return
            self.now += 1
            self.most = max(self.most, self.now)
            self.ends.append(trio.current_time() + self.rng.uniform(0.1, 2.0))
            self.ends.sort()
        elif scope["path"].endswith("/retrieve_future"):
            await trio.sleep(self.rng.uniform(0.1, 2.0) if self.rng.random() < 0.95 else self.rng.uniform(2.0, 20.0))
        await super().__call__(scope, receive, send)


class Dropping(Transport):
    """Loses one request or reply in twenty."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self._random = random.Random(7)
        self.dropped = 0

    async def send(self, request: Request) -> Response:
        drawn = self._random.random() if request.purpose in ("sample", "poll") else 1.0
        if drawn < 0.025:
            self.dropped += 1
            raise APIConnectionError("dropped before it was sent", sent=False)
        response = await self._inner.send(request)
        if drawn < 0.05:
            self.dropped += 1
            await response.aclose()
            raise APIConnectionError("dropped on its way back", sent=True)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def load(samples: int) -> dict[str, Any]:
    """Two clients with so many samples each, all at once; what came of it."""
    config = Config.load(base_url="https://server", api_key="tml-test", environ={})
    server = BusyServer()

    async def story(runtime: Runtime) -> dict[str, Any]:
        sessions = [await runtime.create_service_client() for _ in range(2)]
        clients = [await session.create_sampling_client(base_model="a/b") for session in sessions]
        done: Counter[int] = Counter()
        half: list[tuple[int, int]] = []
        start = trio.current_time()

        async def one(number: int, client: SamplingClient, seed: int) -> None:
            response = await client.sample(PROMPT, 1, SamplingParams(max_tokens=1, seed=seed))
            assert len(response.sequences) == 1
            done[number] += 1
            if done.total() == samples:
                half.append((done[0], done[1]))

        async with trio.open_nursery() as nursery:
            for seed in range(samples):
                for number, client in enumerate(clients):
                    nursery.start_soon(one, number, client, seed)
        limits = clients[0]._session.limits.statistics()
        return {
            "done": done.total(),
            "half": half[0],
            "pending": len(runtime.pending()),
            "held": (limits.sampling.in_flight.held, limits.sampling.dispatch.held, limits.sampling.size.held),
            "most": server.most,
            "refused": server.refused,
            "dropped": transport.dropped,
            "retries": runtime.counters()["retries"],
            "seconds": trio.current_time() - start,
            "limit": limits.sampling.in_flight.limit,
        }

    async def run() -> dict[str, Any]:
        nonlocal transport
        async with open_network(server, random=random.Random(1)) as network:
            transport = Dropping(network.transport())
            async with open_runtime(
                config=config, transport=transport, seed=1, offload=InlineOffload(), stall_alarm=None
            ) as runtime:
                return await story(runtime)

    transport: Dropping
    return run_seeded(run, seed=1, limit=4000.0)


@pytest.mark.parametrize("samples", [300, pytest.param(2500, marks=pytest.mark.ci)])
def test_all_of_many_samples_come_through_and_none_of_two_clients_is_favoured(
    samples: int, caplog: pytest.LogCaptureFixture
):
    found = load(samples)
    assert found["done"] == 2 * samples
    assert found["pending"] == 0
    assert found["held"] == (0, 0, 0)
    assert found["most"] <= CAPACITY
    assert found["refused"] > 0
    assert found["dropped"] > samples / 20
    one, other = found["half"]
    assert abs(one - other) <= 0.2 * (one + other) / 2
    assert len([record for record in caplog.records if record.name == "tinker_actors.waiting"]) <= 5 + samples / 100
    # a few push-backs for each sample and not a storm of them: the limit has found what the server bears
    assert found["refused"] <= 3 * samples
