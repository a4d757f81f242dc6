"""TelemetrySource: the telemetry of one runtime's sessions, where it is on."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, final
from weakref import WeakSet

import msgspec

from supervision import Backoff, ChildSpec
from tinker_actors.flow.pending import PendingTable
from tinker_actors.metrics import Metrics
from tinker_actors.ports import Points
from tinker_actors.ports.time_of_day import time_of_day
from tinker_actors.telemetry.reporter import REPORTER, SENDER, TelemetryReporter
from tinker_actors.telemetry.sender import TelemetrySender
from tinker_actors.telemetry.telemetry import LAST_WORDS, Telemetry, TelemetryStatus
from tinker_actors.wire.api import Api

__all__ = ["RuntimeTelemetry", "TelemetrySource"]

_RESTARTS: Final = 3
_SECONDS: Final = 60.0


class RuntimeTelemetry(msgspec.Struct, frozen=True, kw_only=True):
    """Whether telemetry is on, which generation of the protocol it speaks, when this was so, and of each session."""

    status: Literal["active", "off"]
    sdk_version: str
    timestamp: datetime
    sessions: tuple[TelemetryStatus, ...]


@final
class TelemetrySource:
    """Makes the Telemetry of each new session and the specs of its two actors; neither, where it is not ``enabled``.

    ``rng`` is of its own, so that telemetry changes nothing of what is drawn elsewhere.
    """

    def __init__(
        self,
        api: Api,
        *,
        enabled: bool,
        rng: random.Random,
        sdk_version: str,
        metrics: Metrics,
        pending: PendingTable,
        points: Points,
    ) -> None:
        self._api = api
        self._enabled = enabled
        self._random = rng
        self._sdk_version = sdk_version
        self._process_uuid = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        self._metrics = metrics
        self._pending = pending
        self._points = points
        self._open: WeakSet[Telemetry] = WeakSet()

    def open(self) -> Telemetry | None:
        """The Telemetry of a session that is about to be created; None when telemetry is off."""
        if not self._enabled:
            return None
        salt = self._random.getrandbits(64)
        telemetry = Telemetry(salt=salt, redact=self._api.redact, metrics=self._metrics, now=time_of_day)
        self._open.add(telemetry)
        return telemetry

    def specs(self, telemetry: Telemetry | None) -> Sequence[ChildSpec]:
        """The sender and the reporter, in the order in which they start; the events themselves outlive both.

        They start before the rest of a session, so that they end after it: its end is the last event. Either of them
        ends degraded by itself when it crashes more than three times within a minute.
        """
        if telemetry is None:
            return ()
        sender = ChildSpec(
            SENDER,
            lambda: TelemetrySender(
                telemetry,
                self._api,
                rng=self._random,
                sdk_version=self._sdk_version,
                process_uuid=self._process_uuid,
                metrics=self._metrics,
                pending=self._pending,
                points=self._points,
            ),
            shutdown=LAST_WORDS + 1.0,
            # at once: a session that ends while there is no sender has no last words
            backoff=Backoff(initial=0.0, maximum=0.0),
            max_restarts=_RESTARTS,
            max_seconds=_SECONDS,
            on_close=telemetry.close,
        )
        reporter = ChildSpec(
            REPORTER, lambda: TelemetryReporter(telemetry), max_restarts=_RESTARTS, max_seconds=_SECONDS
        )
        return sender, reporter

    def status(self) -> RuntimeTelemetry:
        """What is so now; of the sessions, those whose handles are still held."""
        sessions = [telemetry.status() for telemetry in self._open]
        return RuntimeTelemetry(
            status="active" if self._enabled else "off",
            sdk_version=self._sdk_version,
            timestamp=time_of_day(),
            sessions=tuple(sorted(sessions, key=lambda one: one.session_id or "")),
        )
