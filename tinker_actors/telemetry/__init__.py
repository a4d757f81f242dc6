"""Telemetry: what a session tells the server about itself, in nobody's way."""

from tinker_actors.telemetry.capture import capture_exceptions
from tinker_actors.telemetry.provider import TelemetryProvider
from tinker_actors.telemetry.source import RuntimeTelemetry, TelemetrySource
from tinker_actors.telemetry.telemetry import Telemetry, TelemetryStatus

__all__ = [
    "RuntimeTelemetry",
    "Telemetry",
    "TelemetryProvider",
    "TelemetrySource",
    "TelemetryStatus",
    "capture_exceptions",
]
