"""The local server on a socket: Starlette behind Hypercorn's HTTP, with the engine in a thread."""

from __future__ import annotations

import logging
import random as random_module
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import trio
from hypercorn.config import Config

from supervision import ActorCrashed, Event
from tinker_actors.local.connections import serve_connections
from tinker_actors.local.listening import address_of, open_listener
from tinker_actors.local.service import LocalService, open_service
from tinker_actors.local.settings import ServerSettings
from tinker_actors.ports import ThreadOffload

__all__ = ["Around", "Listening", "log_crash", "open_server", "serve"]

_log = logging.getLogger("tinker_actors.local")

# Hypercorn's defaults (5 s keep-alive, 1,000 requests for each connection) break clients under load.
_KEEP_ALIVE = 120.0
_REQUESTS_PER_CONNECTION = 1_000_000_000
_GRACE = 2.0  # for requests under way, at the end


Around: TypeAlias = Callable[[Any], Any]
"""Makes an ASGI 3 application of another."""


class Listening(NamedTuple):
    """A server that accepts connections at ``url``."""

    url: str
    service: LocalService


async def serve(
    settings: ServerSettings, host: str = "127.0.0.1", port: int = 0, around: Around | None = None
) -> None:
    """Serve until SIGINT or SIGTERM; prints ``listening on http://HOST:PORT`` once connections are accepted.

    ``around`` and ``port`` as in ``open_server``. Raises what that raises.
    """
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_server(settings, host, port, around=around) as server:
            print(f"listening on {server.url}", flush=True)  # who started us waits for this line
            await anext(aiter(signals))


@asynccontextmanager
async def open_server(
    settings: ServerSettings,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    random: random_module.Random | None = None,
    around: Around | None = None,
) -> AsyncGenerator[Listening]:
    """A server that accepts connections from here on. Port 0 takes a free one.

    ``around`` puts something in front of the ASGI application. ``random`` gives ids and the seeds that clients leave
    open, the system's randomness where it is None. Leaving the block answers what waits, gives requests under way two
    seconds, and closes everything. Raises InvalidInput for settings that can't be served, and for a host beyond
    loopback when ``settings`` has no keys; OSError for an address in use.
    """
    config = Config()
    config.keep_alive_timeout = _KEEP_ALIVE
    config.keep_alive_max_requests = _REQUESTS_PER_CONNECTION
    config.loglevel = "WARNING"
    stop = trio.Event()
    failure: Exception | None = None
    with open_listener(host, port, keys=not settings.takes_any_key) as listener:
        async with (
            open_service(
                settings,
                offload=ThreadOffload(),
                random=random if random is not None else random_module.SystemRandom(),
                now=lambda: datetime.now(UTC),
            ) as service,
            trio.open_nursery() as nursery,
        ):
            app = service.app if around is None else around(service.app)
            with service.system.events.subscribe(log_crash):
                accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
                nursery.start_soon(partial(serve_connections, app, config, accepting, stop, grace=_GRACE))
                try:
                    yield Listening(f"http://{address_of(listener)}", service)
                except Exception as error:  # noqa: BLE001  # raised below, free of the nursery's groups
                    failure = error
                service.futures.release()
                stop.set()
    if failure is not None:
        raise failure


def log_crash(event: Event) -> None:
    """Say in the log that an actor of the server has crashed."""
    if isinstance(event, ActorCrashed):
        _log.error("an actor of the server crashed: %s", event.crash.render())
