"""The TelemetrySender: batch by batch to the server, again and again until they are there, in nobody's way."""

from __future__ import annotations

import logging
import random
from typing import final

import trio

from supervision import Actor, StopReason
from tinker_actors.errors import APIError, APIStatusError
from tinker_actors.flow.pending import PendingTable
from tinker_actors.metrics import Metrics
from tinker_actors.ports import Points
from tinker_actors.telemetry.backoff import LONGEST_DELAY, delay
from tinker_actors.telemetry.outbox import Letter
from tinker_actors.telemetry.serializer import platform_name
from tinker_actors.telemetry.telemetry import LAST_WORDS, Telemetry
from tinker_actors.types import TelemetryBatch
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints.telemetry import send_telemetry

__all__ = ["TelemetrySender"]

_log = logging.getLogger("tinker_actors.telemetry")

_LAST_WORDS_TO_THE_DEAF = 1.0  # when the latest try had failed already
_LARGEST_BATCH = 100  # events, WIRE 5.12
_NOT_THERE = (404, 405, 501)
_REFUSED = (400, 413, 422)
_MOST_REFUSALS = 10
_FORBIDDEN = (401, 403)
_LONGEST_ASKED = 600.0


@final
class TelemetrySender(Actor):
    """Sends what is due, oldest first, one batch at a time.

    A batch that did not get through is sent again under the same ids, after growing delays, for as long as the
    session lives. A server without this endpoint is told nothing; one that refuses a batch gets it in parts, so that
    only what it really refuses is lost, and one that refuses everything is asked one event at a time.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        api: Api,
        *,
        rng: random.Random,
        sdk_version: str,
        process_uuid: str,
        metrics: Metrics,
        pending: PendingTable,
        points: Points,
    ) -> None:
        self._telemetry = telemetry
        self._api = api
        self._random = rng
        self._sdk_version = sdk_version
        self._process_uuid = process_uuid
        self._metrics = metrics
        self._pending = pending
        self._points = points
        self._most = _LARGEST_BATCH
        self._failures = 0
        self._refusals = 0
        """Events that were refused alone, since the latest that was taken."""

    async def init(self) -> None:
        """Begin to send."""
        self.context.start_task(self._send, name="send")

    async def terminate(self, reason: StopReason) -> None:
        """When the session is over, send the rest, within a bound."""
        telemetry = self._telemetry
        if reason.restarting or not telemetry.ended or telemetry.session_id is None:
            return
        bound = _LAST_WORDS_TO_THE_DEAF if self._failures else LAST_WORDS
        telemetry.outbox.release()
        with self._pending.track(self.context.path, "send_telemetry", "sent"), trio.move_on_after(bound):
            while telemetry.outbox:
                try:
                    await self._send_batch()
                except Exception:  # noqa: BLE001  # no next incarnation would send the rest
                    _log.exception("the last events could not be sent")
                    await trio.sleep(delay(0, self._random))
        telemetry.give_up(
            telemetry.outbox.rest(), f"the session has ended, and they did not get through in {bound:g} s"
        )

    async def _send(self) -> None:
        await self._telemetry.until_created()
        while True:
            await self._telemetry.outbox.until_due()
            await self._send_batch()

    async def _send_batch(self) -> None:
        letters = self._telemetry.outbox.batch(self._most)
        batch = TelemetryBatch(
            events=tuple([letter.event for letter in letters]),
            platform=platform_name(),
            sdk_version=self._sdk_version,
            session_id=letters[0].session_id or self._telemetry.session_id or "",
            process_uuid=self._process_uuid,
        )
        self._points.reach("telemetry.before_send", self.context.path)
        try:
            # the same for all tries of these very events: a later try may have more of them
            key = f"{letters[0].event.event_id}-{len(letters)}"
            await send_telemetry(self._api, batch, key=key, attempt=self._failures)
        except APIError as error:
            await self._failed(letters, error)
        else:
            self._points.reach("telemetry.sent", self.context.path)
            self._failures = self._refusals = 0
            self._most = _LARGEST_BATCH
            self._telemetry.outbox.acknowledge(letters)
            self._metrics.add("telemetry_events_sent", len(letters))

    async def _failed(self, letters: tuple[Letter, ...], error: APIError) -> None:
        status = error.status if isinstance(error, APIStatusError) else None
        if status in _NOT_THERE:
            self._telemetry.give_up(self._telemetry.outbox.due(), f"this server takes no telemetry ({error})")
            return
        if status in _REFUSED:
            self._refused(letters, error)
            return
        self._failures += 1
        seconds = delay(self._failures - 1, self._random)
        if status in _FORBIDDEN:  # asking again renews credentials, which others are using
            seconds = LONGEST_DELAY
        asked = error.retry_after if isinstance(error, APIStatusError) else None
        if asked is not None:
            seconds = max(seconds, min(asked, _LONGEST_ASKED))
        level = logging.INFO if self._failures > 1 else logging.WARNING
        _log.log(level, "telemetry could not be sent, the next try is in %.0f s: %s", seconds, error)
        await trio.sleep(seconds)

    def _refused(self, letters: tuple[Letter, ...], error: APIError) -> None:
        if len(letters) > 1:
            self._most = len(letters) // 2
            return
        self._refusals += 1
        if self._refusals < _MOST_REFUSALS:
            self._telemetry.give_up(letters, f"the server refuses it ({error})")
        else:
            self._telemetry.give_up(self._telemetry.outbox.due(), f"the server refuses whatever it is told ({error})")
