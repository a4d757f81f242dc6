"""Telemetry for threads and asyncio."""

from __future__ import annotations

from typing import final

from tinker_actors.blocking.delegate import Handle, answered, blocking, started
from tinker_actors.blocking.engine import Engine
from tinker_actors.telemetry import Telemetry

__all__ = ["BlockingTelemetry", "telemetry_of"]


@final
class BlockingTelemetry(Handle[Telemetry]):
    """Records events of one session. Get it from a blocking client's ``get_telemetry()``."""

    log = answered(Telemetry.log)
    log_exception = answered(Telemetry.log_exception)
    log_fatal_exception = blocking(Telemetry.log_fatal_exception)
    log_fatal_exception_async = started(Telemetry.log_fatal_exception)
    flush = blocking(Telemetry.flush)
    flush_async = started(Telemetry.flush)
    flush_soon = answered(Telemetry.flush_soon)
    status = answered(Telemetry.status)

    @property
    def session_id(self) -> str | None:
        """The server's id of the session; None until it has been created."""
        return self._read("session_id", lambda inner: inner.session_id)


def telemetry_of(engine: Engine, inner: Telemetry | None) -> BlockingTelemetry | None:
    """The handle of ``inner``; None when telemetry is off."""
    return None if inner is None else BlockingTelemetry(engine, inner)
