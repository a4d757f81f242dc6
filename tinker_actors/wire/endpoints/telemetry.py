"""POST /telemetry."""

from __future__ import annotations

from tinker_actors.types import TelemetryBatch, TelemetryResponse
from tinker_actors.wire.api import Api

__all__ = ["send_telemetry"]

_TIMEOUT = 5.0  # the official SDK's


async def send_telemetry(api: Api, batch: TelemetryBatch, *, key: str, attempt: int = 0) -> None:
    """POST /telemetry."""
    await api.call(
        "/telemetry", TelemetryResponse, batch, purpose="telemetry", key=key, timeout=_TIMEOUT, attempt=attempt
    )
