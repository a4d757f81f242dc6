"""The local server on a socket: Starlette behind Hypercorn's HTTP, with the engine in a thread."""

from __future__ import annotations

import logging
import random
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import trio
from hypercorn.config import Config

from supervision import ActorCrashed, Event
from tinker_actors.local.connections import serve_connections
from tinker_actors.local.listening import address_of, open_listener
from tinker_actors.local.service import LocalService, open_service
from tinker_actors.local.settings import ServerSettings
from tinker_actors.ports import ThreadOffload

__all__ = ["serve"]

_log = logging.getLogger("tinker_actors.local")

# Hypercorn's defaults (5 s keep-alive, 1,000 requests for each connection) break clients under load.
_KEEP_ALIVE = 120.0
_REQUESTS_PER_CONNECTION = 1_000_000_000
_GRACE = 2.0  # for requests under way, at the end


async def serve(settings: ServerSettings, host: str = "127.0.0.1", port: int = 0) -> None:
    """Serve until SIGINT or SIGTERM; prints ``listening on http://HOST:PORT`` once connections are accepted.

    Port 0 takes a free one. Raises InvalidInput for settings that can't be served, and for a host beyond loopback
    when ``settings`` has no keys; OSError for an address in use.
    """
    config = Config()
    config.keep_alive_timeout = _KEEP_ALIVE
    config.keep_alive_max_requests = _REQUESTS_PER_CONNECTION
    config.loglevel = "WARNING"
    stop = trio.Event()
    with (
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
        open_listener(host, port, keys=not settings.takes_any_key) as listener,
    ):
        async with (
            open_service(
                settings, offload=ThreadOffload(), random=random.SystemRandom(), now=lambda: datetime.now(UTC)
            ) as service,
            trio.open_nursery() as nursery,
        ):
            with service.system.events.subscribe(_log_crash):
                nursery.start_soon(_stop_on_signal, signals, service, stop)
                print(f"listening on http://{address_of(listener)}", flush=True)  # who started us waits for this line
                accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
                await serve_connections(service.app, config, accepting, stop, grace=_GRACE)
                nursery.cancel_scope.cancel(reason="the server has stopped")


async def _stop_on_signal(signals: AsyncIterator[int], service: LocalService, stop: trio.Event) -> None:
    async for _ in signals:
        service.futures.release()
        stop.set()


def _log_crash(event: Event) -> None:
    if isinstance(event, ActorCrashed):
        _log.error("an actor of the server crashed: %s", event.crash.render())
