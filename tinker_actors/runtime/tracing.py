"""Trace context: ``traceparent`` and ``tracestate`` of the caller's span, where ``otel_propagate`` is on."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any, final

from msgspec import structs

from tinker_actors.config import Config
from tinker_actors.ports import Request, Response, Transport

__all__ = ["TracedTransport", "traced"]

_log = logging.getLogger("tinker_actors.runtime")


@final
class TracedTransport(Transport):
    """A transport whose requests carry what ``inject`` puts into a dict of headers; a request's own headers count."""

    def __init__(self, inner: Transport, inject: Callable[[dict[str, str]], object]) -> None:
        self._inner = inner
        self._inject = inject

    async def send(self, request: Request) -> Response:
        """Send ``request`` with the headers of the span that is current in this task."""
        found: dict[str, str] = {}
        self._inject(found)
        own = {name for name, _ in request.headers}
        more = [(name.lower(), value) for name, value in found.items() if name.lower() not in own]
        return await self._inner.send(structs.replace(request, headers=(*request.headers, *more)))

    async def aclose(self) -> None:
        """Close the transport beneath."""
        await self._inner.aclose()


def traced(transport: Transport, config: Config) -> Transport:
    """``transport``, with trace context where the configuration asks for it and opentelemetry can be imported."""
    if not config.otel_propagate:
        return transport
    try:
        propagate: Any = importlib.import_module("opentelemetry.propagate")
    except ImportError:
        _log.warning("otel_propagate is on, and opentelemetry-api is not installed: no trace context is sent")
        return transport
    return TracedTransport(transport, propagate.inject)
