"""The metrics that a runtime keeps of its own: docs/metrics.md says what each is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

from tinker_actors.ports import Purpose

__all__ = ["OWN", "Kind"]

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]

_COUNTERS = (
    *("bytes_sent", "bytes_received", "sends", "polls", "retries"),
    *("operations_done", "samples_done", "samples_repeated", "samples_cancelled"),
    *("tokens_trained", "tokens_prompted", "tokens_sampled"),
    *("telemetry_events", "telemetry_events_sent", "telemetry_events_lost"),
    *("checkpoints_saved", "checkpoints_failed", "checkpoints_pruned"),
    *("recovery_attempts", "recovery_attempts_failed", "recoveries_completed", "recoveries_exhausted"),
    *("recovery_poll_errors", "runs_corrupted"),
    *("heartbeats", "heartbeats_missed", "sessions_lost", "models_lost", "replays_differing", "actor_restarts"),
    "spilled_bytes",
    *(f"{purpose}_requests" for purpose in get_args(Purpose)),
    *(f"{purpose}_requests_failed" for purpose in get_args(Purpose)),
)
_HISTOGRAMS = (
    *("operation_seconds", "sample_seconds", "queue_seconds", "loop_lag_seconds"),
    *(f"{purpose}_request_seconds" for purpose in get_args(Purpose)),
)


def _own() -> Iterator[tuple[str, Kind]]:
    for name in _COUNTERS:
        yield name, "counter"
    for name in _HISTOGRAMS:
        yield name, "histogram"


OWN: Mapping[str, Kind] = MappingProxyType(dict(_own()))
