"""A server on loopback that a plain test can look into."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar, final

import trio

from tests.blocking.programs import BASE_MODEL, Holding, runtime_at
from tinker_actors import ServerSettings, local_server
from tinker_actors.blocking import BlockingRuntime
from tinker_actors.local.service import LocalService

__all__ = ["Served", "served"]

T = TypeVar("T")


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
        """The digests of what a model was told to do, in the order in which it took effect."""
        return self.ask(lambda service: [operation.digest for operation in service.applied(model_id)])

    def ends(self) -> list[str | None]:
        """How each session ended, in order of creation; None for the living."""
        return self.ask(lambda service: [session.ended for session in service.sessions._sessions.values()])

    def runtime(self, carrier: Holding | None = None, **more: Any) -> BlockingRuntime:
        """A runtime for it, through ``carrier``, which ends with it."""
        return runtime_at(self.url, self.key, carrier, **more)


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
