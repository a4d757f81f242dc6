"""A server on loopback that a plain test can look into, and a transport that lets chosen requests wait."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar, final

import trio

from tinker_actors import ServerSettings, local_server
from tinker_actors.blocking import BlockingRuntime, ServiceClient, TrainingClient, blocking_runtime
from tinker_actors.blocking.engine import Engine
from tinker_actors.local.service import LocalService
from tinker_actors.ports import Request, Response, Transport
from tinker_actors.runtime import Runtime, open_runtime
from tinker_actors.testing.operations import BASE_MODEL, datum
from tinker_actors.types import Datum, ModelInput, SamplingParams
from tinker_actors.wire.transport import HttpTransport

__all__ = ["BASE_MODEL", "PROMPT", "SHORT", "Holding", "Served", "batch", "engines", "served", "start", "until"]

T = TypeVar("T")

PROMPT = ModelInput.from_ints([1, 2])
SHORT = SamplingParams(max_tokens=2, seed=1)


def batch(*seeds: int) -> list[Datum]:
    """A random datum for each seed."""
    return [datum(seed) for seed in seeds]


@final
class Served:
    """A server in a thread of its own."""

    def __init__(self, url: str, key: str, service: LocalService, token: trio.lowlevel.TrioToken) -> None:
        self.url = url
        self.key = key
        self._service = service
        self._token = token

    def ask(self, function: Callable[[LocalService], T]) -> T:
        """What ``function`` finds in the service, called in its own thread."""
        return trio.from_thread.run_sync(function, self._service, trio_token=self._token)

    def applied(self, model_id: str) -> list[str]:
        """The digests of what a model was told to do, in the order in which that took effect."""
        return self.ask(lambda service: [operation.digest for operation in service.applied(model_id)])

    def ends(self) -> list[str | None]:
        """How each session ended, in order of creation; None for the living."""
        return self.ask(lambda service: [session.ended for session in service.sessions._sessions.values()])

    def runtime(self, carrier: Holding | None = None, **more: Any) -> BlockingRuntime:
        """A runtime for it, through ``carrier``, which ends with it."""
        settings = {"base_url": self.url, "api_key": self.key, "seed": 1, **more}
        if carrier is None:
            return blocking_runtime(**settings)

        @asynccontextmanager
        async def opened() -> AsyncGenerator[Runtime]:
            try:
                async with open_runtime(transport=carrier, **settings) as runtime:
                    yield runtime
            finally:
                await carrier.aclose()

        engine = Engine(opened)
        return BlockingRuntime(engine, engine.open())


@contextmanager
def served(settings: ServerSettings | None = None) -> Generator[Served]:
    """One for the length of the block."""
    started: queue.SimpleQueue[tuple[Served, trio.Event]] = queue.SimpleQueue()

    async def run() -> None:
        stop = trio.Event()
        async with local_server(settings or ServerSettings(base_model=BASE_MODEL), loopback=True, seed=1) as server:
            token = trio.lowlevel.current_trio_token()
            started.put((Served(server.url, server.key, server.service, token), stop))
            await stop.wait()

    thread = threading.Thread(target=lambda: trio.run(run), name="served")
    thread.start()
    server, stop = started.get(timeout=30)
    try:
        yield server
    finally:
        server._token.run_sync_soon(stop.set)
        thread.join()


def start(runtime: BlockingRuntime) -> tuple[ServiceClient, TrainingClient]:
    """A session and a model of it."""
    service = runtime.create_service_client()
    return service, service.create_lora_training_client(BASE_MODEL, rank=2, seed=1)


def until(condition: Callable[[], bool], within: float = 60.0) -> None:
    """Return when ``condition`` holds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.002)


def engines() -> list[threading.Thread]:
    """The threads of runtimes that are open."""
    return [thread for thread in threading.enumerate() if thread.name == "tinker-actors"]


class Holding(Transport):
    """HTTP in which requests of the ``held`` purposes are never sent, and so never answered."""

    def __init__(self, *held: str) -> None:
        self.held = set(held)
        self._inner = HttpTransport()

    async def send(self, request: Request) -> Response:
        if request.purpose in self.held:
            await trio.sleep_forever()
        return await self._inner.send(request)

    async def aclose(self) -> None:
        await self._inner.aclose()
