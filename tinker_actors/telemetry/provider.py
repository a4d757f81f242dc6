"""TelemetryProvider: whatever has a Telemetry to record to."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from tinker_actors.types import Severity

__all__ = ["Recorder", "TelemetryProvider"]


class Recorder(Protocol):
    """A Telemetry, or the blocking handle of one."""

    def log_exception(self, error: BaseException, severity: Severity | str = "ERROR") -> bool:
        """Record an exception."""
        ...

    def flush_soon(self) -> None:
        """Have what is recorded sent now."""
        ...


@runtime_checkable
class TelemetryProvider(Protocol):
    """All clients are; a class of yours that derives from it has none until it says which."""

    def get_telemetry(self) -> Recorder | None:
        """Where to record events; None when telemetry is off."""
        return None
