"""Whatever becomes of telemetry, the clients get the same results at the same time."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import pytest
import trio

from supervision.testing import run_seeded
from tests.telemetry.reporting import crash
from tinker_actors.config import Config
from tinker_actors.errors import APIResponseError
from tinker_actors.local.service import open_service
from tinker_actors.local.settings import ServerSettings
from tinker_actors.ports import InlineOffload, Request, Response, Transport
from tinker_actors.runtime import Runtime, open_runtime
from tinker_actors.testing.faults import Delay, DropAfter, DropBefore, Fault, FaultPlan, FaultyTransport, Status
from tinker_actors.testing.network import open_network
from tinker_actors.testing.operations import BASE_MODEL, PROMPT, datum, plain, start_client
from tinker_actors.types import AdamParams, SamplingParams

LONG = 1_000_000
PATH = "/telemetry"


class Endless(Response):
    """A reply that has no end."""

    status = 200
    headers: Mapping[str, str] = {"content-type": "application/json"}

    async def stream(self) -> AsyncGenerator[bytes]:
        while True:
            await trio.sleep(0.001)
            yield b"x" * 10_000

    async def read(self, limit: int) -> bytes:
        size = 0
        async with aclosing(self.stream()) as pieces:
            async for piece in pieces:
                size += len(piece)
                if size > limit:
                    break
        raise APIResponseError("too long")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class Flooding(Transport):
    """Telemetry gets an endless reply."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.floods = 0

    async def send(self, request: Request) -> Response:
        if request.purpose == "telemetry":
            self.floods += 1
            await trio.sleep(0.01)
            return Endless()
        return await self._inner.send(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def work(runtime: Runtime, *, noisy: bool, crashing: bool) -> tuple[list[Any], list[float], float]:
    """Results of a training with samples beside it, when each was there, and when all was closed."""
    service = await runtime.create_service_client()
    telemetry = service.get_telemetry()
    client = await start_client(service)
    sampler = await service.create_sampling_client(base_model=BASE_MODEL)
    results: list[Any] = []
    times: list[float] = []

    async def sample(seed: int) -> None:
        await trio.sleep(seed * 7.3)
        answer = plain(await sampler.sample(PROMPT, 1, SamplingParams(max_tokens=4)))
        results.append((seed, answer))
        times.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for seed in range(8):
            nursery.start_soon(sample, seed)
        for step in range(8):
            if noisy and telemetry is not None:
                for number in range(3_000):
                    telemetry.log("noise", {"number": number, "text": "x" * 200})
                telemetry.log_exception(KeyError("noise"))
            if crashing and telemetry is not None:
                nursery.start_soon(crash_telemetry, runtime)
            losses = await client.forward_backward([datum(step), datum(step + 10)])
            update = await client.optim_step(AdamParams(learning_rate=0.01))
            results.append((step, (await losses).metrics["loss:sum"]))
            await update
            times.append(trio.current_time())
            await trio.sleep(7.1)
    await client.aclose()
    await sampler.aclose()
    times.append(trio.current_time())
    await service.aclose()
    return sorted(results, key=str), times, trio.current_time()


async def crash_telemetry(runtime: Runtime) -> None:
    class World:
        def __init__(self) -> None:
            self.runtime = runtime

    world: Any = World()
    for actor in ("telemetry-sender", "telemetry"):
        node = runtime.tree().find(f"runtime/sessions/session-0/{actor}")
        if node is not None and node.state == "running":
            await crash(world, f"runtime/sessions/session-0/{actor}")


def run(
    *faults: Fault, on: bool = True, flood: bool = False, noisy: bool = False, crashing: bool = False, seed: int = 3
) -> tuple[list[Any], list[float], float, int]:
    async def scenario() -> tuple[list[Any], list[float], float, int]:
        config = Config.load(
            base_url="https://server", api_key="tml-test", environ={}, telemetry_enabled=on, heartbeat_interval=10.0
        )
        async with (
            open_service(
                ServerSettings(base_model=BASE_MODEL), offload=InlineOffload(), random=random.Random(1)
            ) as service,
            open_network(service.app, random=random.Random(2), latency=(0.005, 0.005)) as network,
            trio.open_nursery() as late,
        ):
            inner: Transport = FaultyTransport(network.transport(), FaultPlan(faults), nursery=late)
            transport = Flooding(inner) if flood else inner
            async with open_runtime(config=config, transport=transport, seed=4, offload=InlineOffload()) as runtime:
                results, times, closed = await work(runtime, noisy=noisy, crashing=crashing)
                asked = runtime.counters().get("telemetry_requests", 0)
            late.cancel_scope.cancel()
        return results, times, closed, asked

    return run_seeded(scenario, seed=seed, limit=10_000.0)


@pytest.fixture(scope="module")
def without() -> tuple[list[Any], list[float], float, int]:
    return run(on=False)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"noisy": True},
        {"flood": True},
        {"flood": True, "noisy": True},
        {"crashing": True, "noisy": True},
        {"faults": [Delay(path=PATH, seconds=1_000.0, times=LONG)]},
        {"faults": [Delay(path=PATH, seconds=1_000.0, times=LONG, reply=True)], "noisy": True},
        {"faults": [DropBefore(path=PATH, times=LONG, known=True)]},
        {"faults": [DropAfter(path=PATH, times=LONG)]},
        {"faults": [Status(path=PATH, times=LONG, status=401)]},
        {"faults": [Status(path=PATH, times=LONG, status=402)]},
        {"faults": [Status(path=PATH, times=LONG, status=404)]},
        {"faults": [Status(path=PATH, times=LONG, status=410)]},
        {"faults": [Status(path=PATH, times=LONG, status=413)], "noisy": True},
        {"faults": [Status(path=PATH, times=LONG, status=429, retry_after=3_600.0)], "noisy": True},
        {"faults": [Status(path=PATH, times=LONG, status=500)], "noisy": True},
    ],
    ids=str,
)
def test_results_and_their_times_are_those_without_telemetry(
    options: dict[str, Any], without: tuple[list[Any], list[float], float, int]
):
    faults = options.pop("faults", [])
    results, times, closed, asked = run(*faults, **options)
    assert results == without[0]
    assert times == pytest.approx(without[1], abs=1e-9)
    assert asked > 0 == without[3]
    assert closed - without[2] <= 5.1  # its last words


def test_a_runtime_is_left_within_the_bound_when_telemetry_hangs():
    async def scenario() -> float:
        async with (
            open_service(
                ServerSettings(base_model=BASE_MODEL), offload=InlineOffload(), random=random.Random(1)
            ) as service,
            open_network(service.app, random=random.Random(2)) as network,
        ):
            plan = FaultPlan((Delay(path=PATH, seconds=1_000.0, times=LONG),))
            config = Config.load(base_url="https://server", api_key="tml-test", environ={})
            transport = FaultyTransport(network.transport(), plan)
            async with open_runtime(config=config, transport=transport, seed=4, offload=InlineOffload()) as runtime:
                for _ in range(20):
                    await runtime.create_service_client()
                began = trio.current_time()
            return trio.current_time() - began

    assert run_seeded(scenario, seed=1, limit=1_000.0) < 6.0
