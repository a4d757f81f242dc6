"""MeasuredTransport: how many requests of each purpose, how many failed, how long they took, how many bytes."""

from __future__ import annotations

from typing import final

import trio

from tinker_actors.errors import APIConnectionError
from tinker_actors.metrics import Metrics
from tinker_actors.ports import Request, Response, Transport

__all__ = ["MeasuredTransport"]

_LONGEST_LENGTH = 18  # digits of a number below 2**63


@final
class MeasuredTransport(Transport):
    """``inner``, with its requests counted in ``metrics``.

    For each purpose: ``{purpose}_requests``, ``{purpose}_requests_failed`` (no answer, or an error status; a poll's
    408 is none) and the histogram ``{purpose}_request_seconds`` until the head of the response; ``bytes_sent`` in
    bodies and ``bytes_received`` as the servers announce them.
    """

    def __init__(self, inner: Transport, metrics: Metrics) -> None:
        self._inner = inner
        self._metrics = metrics

    async def send(self, request: Request) -> Response:
        """Send ``request`` and count what comes of it."""
        metrics, purpose = self._metrics, request.purpose
        began = trio.current_time()
        try:
            response = await self._inner.send(request)
        except APIConnectionError:
            metrics.add(f"{purpose}_requests_failed")
            raise
        finally:
            metrics.add(f"{purpose}_requests")
            metrics.observe(f"{purpose}_request_seconds", trio.current_time() - began)
        if response.status >= 400 and not (purpose == "poll" and response.status == 408):  # that is "not yet"
            metrics.add(f"{purpose}_requests_failed")
        metrics.add("bytes_sent", request.size or 0)
        length = response.headers.get("content-length", "")
        if length.isdecimal() and len(length) <= _LONGEST_LENGTH:  # a server may write what it likes
            metrics.add("bytes_received", int(length))
        return response

    async def aclose(self) -> None:
        """Close the transport beneath."""
        await self._inner.aclose()
