"""A local server for the length of a block: in this program's memory, on loopback, or in a thread of its own.

async with local_server() as server, open_runtime(server=server) as runtime:
    ...
"""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from typing import Final, TypeVar, final

import trio

from tinker_actors.checks import flag, integer
from tinker_actors.errors import InvalidInput
from tinker_actors.flow.home import require_trio
from tinker_actors.local.server import Around, log_crash, open_server
from tinker_actors.local.service import LocalService, open_service
from tinker_actors.local.settings import ServerSettings
from tinker_actors.ports import Server, ThreadOffload, Transport
from tinker_actors.testing.faults import FaultPlan, FaultyTransport
from tinker_actors.testing.faulty_server import FaultyApplication, require_network_faults
from tinker_actors.testing.network import open_network

__all__ = ["local_server", "local_server_thread", "LocalServer"]

T = TypeVar("T")

_ANY_KEY: Final = "tml-local"
_IN_MEMORY: Final = "https://local-server"


@final
class LocalServer(Server):
    """A running server. Made by ``local_server``, and by ``local_server_thread`` (which has no ``service``).

    Printing it does not show the key.
    """

    def __init__(
        self, url: str, key: str, service: LocalService | None, connect: Callable[[], Transport] | None
    ) -> None:
        self._url = url
        self._key = key
        self._service = service
        self._connect = connect

    @property
    def url(self) -> str:
        """Its base URL; one that only ``transport()`` can reach when it is in this program's memory."""
        return self._url

    @property
    def key(self) -> str:
        """An API key that it takes."""
        return self._key

    @property
    def service(self) -> LocalService:
        """What is behind it: models, their digests, what was applied. For the trio program that it runs in."""
        if self._service is None:
            raise RuntimeError("this server runs in another thread: ask it through its endpoints")
        return self._service

    def transport(self) -> Transport | None:
        """A connection to it in memory; None when it listens on loopback."""
        return None if self._connect is None else self._connect()

    def __repr__(self) -> str:
        return f"<LocalServer {self._url}>"


@asynccontextmanager
async def local_server(
    settings: ServerSettings | None = None,
    *,
    loopback: bool = False,
    port: int = 0,
    seed: int | None = None,
    faults: FaultPlan | None = None,
) -> AsyncGenerator[LocalServer]:
    """A Tinker-compatible server in this trio program, until the block ends.

    ``settings`` are those of ``tinker-actors serve``; by default it keeps everything in memory and offers the
    packaged base model. It is reached through memory, without any socket; with ``loopback`` over HTTP at 127.0.0.1,
    for other programs and the official SDK, at ``port`` (0: any free one). ``seed`` fixes ids, and the seeds that
    clients leave open. Requests meet the network faults of the plan ``faults``. Raises InvalidInput for values
    of the wrong kind and settings that can't be served, OSError for a port in use, WrongPlace outside of
    trio.
    """
    require_trio("local_server()", "local_server_thread()")
    chosen = _checked("settings", settings, ServerSettings) or ServerSettings()
    plan = _checked("faults", faults, FaultPlan)
    if plan is not None:
        require_network_faults(plan)
    integer("port", port, "Give 0 for any free one, or one up to 65535", low=0, high=65535)
    loopback = flag("loopback", loopback)
    keys = (*(chosen.api_keys or ()), *(key for owned in chosen.owners.values() for key in owned), _ANY_KEY)
    key = keys[0]
    rng = random.SystemRandom() if seed is None else random.Random(seed)
    if loopback:
        around: Around | None = None if faults is None else lambda app: FaultyApplication(app, faults)
        async with open_server(chosen, port=port, random=rng, around=around) as listening:
            yield LocalServer(listening.url, key, listening.service, None)
        return
    failure: Exception | None = None
    async with (
        open_service(chosen, offload=ThreadOffload(), random=rng, now=lambda: datetime.now(UTC)) as service,
        open_network(service.app, random=random.Random(0), latency=(0.0, 0.0)) as network,
    ):
        with service.system.events.subscribe(log_crash):
            try:
                connect: Callable[[], Transport] = network.transport
                if faults is not None:
                    faulty = FaultyTransport(network.transport(), faults)  # one, so that all clients count together
                    connect = lambda: faulty  # noqa: E731
                yield LocalServer(_IN_MEMORY, key, service, connect)
            except Exception as error:  # noqa: BLE001  # raised below, free of the network's groups
                failure = error
    if failure is not None:
        raise failure


def _checked(field: str, value: T | None, kind: type[T]) -> T | None:
    if value is None or isinstance(value, kind):
        return value
    raise InvalidInput(field, f"is of type {type(value).__name__}", f"Give {kind.__name__}(...)")


@contextmanager
def local_server_thread(settings: ServerSettings | None = None, *, port: int = 0) -> Generator[LocalServer]:
    """A server on loopback in a thread of its own, until the block ends: for plain code, asyncio, or any program.

    ``settings`` and ``port`` as in ``local_server``. Leaving the block waits for the server's end, and raises what
    ended it before. Raises InvalidInput for settings that can't be served, OSError for a port in use.
    """
    started: queue.SimpleQueue[tuple[LocalServer, trio.lowlevel.TrioToken, trio.Event] | BaseException] = (
        queue.SimpleQueue()
    )
    failures: list[BaseException] = []

    async def run() -> None:
        stop = trio.Event()
        async with local_server(settings, loopback=True, port=port) as server:
            started.put((LocalServer(server.url, server.key, None, None), trio.lowlevel.current_trio_token(), stop))
            await stop.wait()

    def main() -> None:
        try:
            trio.run(run)
        except BaseException as error:  # noqa: BLE001  # raised in the thread that waits for it
            failures.append(error)
            started.put(error)

    thread = threading.Thread(target=main, name="local-server", daemon=True)
    thread.start()
    first = started.get()
    if isinstance(first, BaseException):
        thread.join()
        raise first
    server, token, stop = first
    try:
        yield server
    finally:
        with suppress(trio.RunFinishedError):  # it has ended, and says below why
            token.run_sync_soon(stop.set)
        thread.join()
        if failures:
            raise failures[0]
