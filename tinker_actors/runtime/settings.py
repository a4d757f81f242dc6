"""What a Config asks of the runtime as a whole: its log's level, what carries its requests, where it spills."""

from __future__ import annotations

import logging
import os
import pkgutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from tinker_actors.config import Config, Proxy
from tinker_actors.errors import InvalidInput
from tinker_actors.ledger import SpillStore
from tinker_actors.metrics import Metrics
from tinker_actors.ports import Disk, Offload, Purpose, Transport
from tinker_actors.wire.transport import HttpTransport
from tinker_actors.wire.urls import is_loopback

__all__ = ["make_store", "make_transport", "pool_limits", "set_level"]

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_POOL_SIZE = 50
_POOL_COUNT = 20


def set_level(level: str | None) -> None:
    """Let the loggers below "tinker_actors" say what is of ``level`` and above; None leaves them as they are."""
    if level is not None:
        logging.getLogger("tinker_actors").setLevel(_LEVELS[level])


def make_transport(config: Config) -> Transport:
    """The transport that ``config`` names, one through its proxy, or one over sockets.

    Raises InvalidInput for a name that leads nowhere, and for a proxy that would see the key.
    """
    given: Any = config.http_client
    if given is None and config.proxy is not None:
        return _through(config.proxy, config)
    if given is None:
        return HttpTransport(limits=pool_limits(config))
    if not isinstance(given, str):
        return cast("Transport", given)
    cure = "Write module:name of a Transport, or of something that makes one when called"
    try:
        found = pkgutil.resolve_name(given)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidInput("http_client", f"{given!r} can't be loaded ({error})", cure) from error
    made = found() if callable(found) and not (hasattr(found, "send") and not isinstance(found, type)) else found
    if not all(callable(getattr(made, name, None)) for name in ("send", "aclose")):
        raise InvalidInput("http_client", f"{given!r} offers no send and aclose", cure)
    return cast("Transport", made)


def _through(proxy: Proxy, config: Config) -> Transport:
    import ssl

    import httpx

    from tinker_actors.wire.httpx_transport import HttpxTransport

    if urlsplit(config.base_url).scheme == "http" and not (config.allow_plain_http or is_loopback(proxy.host)):
        problem = f"{proxy.host} would see the key, for the server is asked over plain http"
        raise InvalidInput("proxy", problem, "Use an https base_url, or set allow_plain_http=True")
    client = httpx.AsyncClient(
        proxy=httpx.Proxy(proxy.url, headers=dict(proxy.headers)),
        verify=ssl.create_default_context(),
        trust_env=False,  # the configuration alone says where requests go
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
    )
    return HttpxTransport(client, limits=pool_limits(config))


def make_store(config: Config, disk: Disk, offload: Offload, metrics: Metrics) -> SpillStore | None:
    """Where models spill what memory has no room for; None when nothing is spilled."""
    recovery = config.recovery
    if recovery is None or not recovery.spill_bytes:
        return None
    given = recovery.spill_folder
    folder = Path(tempfile.gettempdir(), f"tinker-actors-{os.getuid()}") if given is None else Path(given).absolute()
    return SpillStore(disk, offload, metrics, folder, private=given is None)


def pool_limits(config: Config) -> Mapping[Purpose, int]:
    """Connections for each purpose, where the configuration says how many; polls get a quarter of the samples'."""
    if config.pool_size is None and config.pool_count is None:
        return {}
    size, count = config.pool_size or _POOL_SIZE, config.pool_count or _POOL_COUNT
    return {"sample": size * count, "poll": max(1, size // 2) * max(1, count // 2)}
