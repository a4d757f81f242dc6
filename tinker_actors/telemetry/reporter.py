"""The TelemetryReporter: says when events are due, and reports what happens to the session's other actors."""

from __future__ import annotations

from typing import Final, final

import trio

from supervision import (
    Actor,
    ActorCrashed,
    ActorDegraded,
    ActorRestarted,
    ActorStuck,
    Event,
    StopReason,
)
from tinker_actors.telemetry.telemetry import Telemetry
from tinker_actors.types import Severity

__all__ = ["REPORTER", "SENDER", "TelemetryReporter"]

REPORTER: Final = "telemetry"
SENDER: Final = "telemetry-sender"
"""The places of the two, below the session: they don't report themselves."""

_INTERVAL = 10.0  # seconds between two batches; the official SDK's


@final
class TelemetryReporter(Actor):
    """Lets events go every ten seconds, by one timer, and listens to what happens to its neighbours."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    async def init(self) -> None:
        """Begin to listen and to count time."""
        self._session = self.context.path.removesuffix(self.context.name)
        self._listening = self.context.system.events.subscribe(self._hear)
        self.context.start_task(self._keep_time, name="timer")

    async def terminate(self, reason: StopReason) -> None:
        """Listen no more."""
        self._listening.cancel()

    async def _keep_time(self) -> None:
        while True:
            await trio.sleep(_INTERVAL)
            self._telemetry.release()

    def _hear(self, event: Event) -> None:
        name = event.path.removeprefix(self._session)
        if name in (event.path, REPORTER, SENDER):  # another session's, or what would report itself
            return
        telemetry = self._telemetry
        if isinstance(event, ActorCrashed):
            telemetry.record_exception(event.crash.error, traceback=event.crash.render())
        elif isinstance(event, ActorRestarted):
            telemetry.record("actor.restarted", {"actor": name, "incarnation": event.incarnation})
        elif isinstance(event, ActorDegraded):
            crashes = [crash.text for crash in event.history]
            telemetry.record("actor.degraded", {"actor": name, "crashes": crashes}, Severity.ERROR)
        elif isinstance(event, ActorStuck):
            telemetry.record("actor.stuck", {"actor": name, "stack": event.stack}, Severity.ERROR)
