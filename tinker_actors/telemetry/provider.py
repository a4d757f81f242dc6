"""TelemetryProvider: whatever has a Telemetry to record to."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from tinker_actors.telemetry.telemetry import Telemetry

__all__ = ["TelemetryProvider"]


@runtime_checkable
class TelemetryProvider(Protocol):
    """All clients are; a class of yours that derives from it has none until it says which."""

    def get_telemetry(self) -> Telemetry | None:
        """Where to record events; None when telemetry is off."""
        return None
