"""Telemetry: what one session tells the server about itself, and the handle for a program's own events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, final

import msgspec
import trio
from msgspec import structs

from supervision import StopReason
from tinker_actors.checks import number, text
from tinker_actors.codec.json import encode_json
from tinker_actors.errors import APIError, InvalidInput
from tinker_actors.flow.home import Home
from tinker_actors.metrics import Metrics
from tinker_actors.telemetry.events import Events, Now, parse_severity
from tinker_actors.telemetry.failures import Repeats, failure_name, failure_severity, told_of
from tinker_actors.telemetry.outbox import Letter, Outbox
from tinker_actors.telemetry.serializer import Redact, Serializer
from tinker_actors.types import GenericEvent, Severity, TelemetryEvent

__all__ = ["LAST_WORDS", "Telemetry", "TelemetryStatus"]

_log = logging.getLogger("tinker_actors.telemetry")

LAST_WORDS = 5.0
"""Seconds that the end of a session, or of a block, may wait for its last events."""
_PATIENCE = 30.0  # seconds of a flush that was asked for; the official SDK's
_THRESHOLD = 100  # events that are sent before their time is up
_LARGEST = 256 * 1024  # bytes of one event


class TelemetryStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a session's events so far.

    ``alive`` is False once nobody sends any more: the session was closed, or telemetry crashed too often.
    ``recorded`` events were taken, ``sent`` ones are at the server, ``waiting`` ones go with the next batches, and
    ``lost`` ones were refused for want of room or given up. ``timestamp`` is when this was so.
    """

    session_id: str | None
    alive: bool
    recorded: int
    sent: int
    waiting: int
    lost: int
    timestamp: datetime


@final
class Telemetry:
    """Records events of one session, to be sent in the background. Get it from a client's ``get_telemetry()``.

    Recording never waits and never fails for what an event holds: what can't be sent as it is goes as text, and names
    itself. What is wrong with a call itself (a name that is no text, an unknown severity) is an InvalidInput, and
    WrongPlace says when it is used outside of its runtime's trio program.
    """

    def __init__(
        self,
        *,
        salt: int,
        redact: Redact,
        metrics: Metrics,
        now: Now,
        outbox: Outbox | None = None,
    ) -> None:
        self.outbox = outbox if outbox is not None else Outbox()
        self._events = Events(salt, Serializer(redact), now)
        self._metrics = metrics
        self._now = now
        self._home = Home()
        self._session_id: str | None = None
        self._created = trio.Event()
        self.ended = False
        """Whether the session is over."""
        self._alive = True
        self._told = 0
        self._repeats = Repeats()

    @property
    def session_id(self) -> str | None:
        """The server's id of the session; None until it has been created."""
        return self._session_id

    def log(self, name: str, data: Mapping[str, Any] | None = None, severity: Severity | str = "INFO") -> bool:
        """Record the event ``name``. False when it was not taken: too many wait to be sent, or nobody sends any more.

        Names should be few, and say what kind of thing has happened; ``data`` says which.
        """
        self._home.require(self)
        name = text("name", name, "Give the event a name, such as dataset.loaded")
        if data is not None and not isinstance(data, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput("data", f"is of type {type(data).__name__}", "Give a dict, or None")
        return self.record(name, data if data is not None else {}, parse_severity(severity))

    def log_exception(self, error: BaseException, severity: Severity | str = "ERROR") -> bool:
        """Record an exception: as unhandled, or as ``user_error`` when it is the user's own doing.

        False when it was not taken, as of ``log``.
        """
        self._home.require(self)
        level = parse_severity(severity)
        if not isinstance(error, BaseException):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput("error", f"is of type {type(error).__name__}", "Give an exception")
        return self.record_exception(error, level)

    async def log_fatal_exception(
        self, error: BaseException, severity: Severity | str = "CRITICAL", *, timeout: float = _PATIENCE
    ) -> bool:
        """Record an exception that ends the program, and wait until it is sent, for ``timeout`` seconds at most.

        True when it was. The session itself goes on: its end is reported when it is closed.
        """
        taken = self.log_exception(error, severity)
        return await self.flush(timeout) and taken

    def flush_soon(self) -> None:
        """Have what is recorded sent now instead of in up to ten seconds."""
        self._home.require(self)
        self.release()

    async def flush(self, timeout: float = _PATIENCE) -> bool:
        """Have what is recorded sent now, and wait ``timeout`` seconds for it; False when some of it was not."""
        self._home.require(self)
        cure = "Give a number of seconds, 0 or more"
        seconds = number("timeout", timeout, cure)
        if not seconds >= 0:
            raise InvalidInput("timeout", f"{seconds} is no time to wait", cure)
        self.release()
        lost = self.outbox.given_up
        with trio.move_on_after(seconds):
            await self.outbox.until_done()
            return self.outbox.given_up == lost
        return False

    def status(self) -> TelemetryStatus:
        """How many events were recorded, sent and lost."""
        box = self.outbox
        return TelemetryStatus(
            session_id=self._session_id,
            alive=self._alive,
            recorded=box.pushed,
            sent=box.sent,
            waiting=len(box),
            lost=box.refused + box.given_up,
            timestamp=self._now(),
        )

    # for the session and the actors

    def begin(self, session_id: str) -> None:
        """The server has created the session: events can be sent from now on. A session that takes the place of a
        lost one ends that in the book and has numbers of its own.
        """
        if self._session_id is not None:
            self._push(self._events.session_end)
        self._session_id = session_id
        self._push(lambda: self._events.session_start(session_id))
        self._created.set()

    def end(self) -> None:
        """The session is over; what happens afterwards is not recorded. Further calls do nothing."""
        if self._session_id is not None:
            self._tell_repeats()
            self._push(self._events.session_end)
        self.ended = True

    def close(self, reason: StopReason) -> None:
        """Nobody sends any more: what is left is lost."""
        self._alive = False
        self.give_up(self.outbox.rest(), f"telemetry has ended ({reason})")

    async def until_created(self) -> None:
        """Wait for the session to have an id."""
        await self._created.wait()

    def record(self, name: str, data: Mapping[str, Any], severity: Severity = Severity.INFO) -> bool:
        """As ``log``, for what needs no check."""
        return self._push(lambda: self._events.generic(name, data, severity))

    def record_exception(
        self, error: BaseException, severity: Severity = Severity.ERROR, *, traceback: str | None = None
    ) -> bool:
        """As ``log_exception``, for what needs no check; ``traceback`` where the error's own was taken off."""
        return self._push(lambda: self._events.exception(error, severity, traceback))

    def record_failure(self, operation: str, kind: str, error: BaseException) -> bool:
        """An operation of the session's has failed for good."""
        data = {"operation": operation, "kind": kind, **told_of(error)}
        return self.record(failure_name(error), data, failure_severity(error))

    def count_repeat(self, error: APIError) -> None:
        """A request has failed with ``error`` and is sent again; told as one event with all of its kind."""
        self._repeats.add(error)

    def release(self) -> None:
        """All that is recorded may be sent."""
        self._tell_repeats()
        self.outbox.release()

    def give_up(self, letters: tuple[Letter, ...], why: str) -> None:
        """Count them as lost, and say so in the log."""
        taken = self.outbox.give_up(letters)
        if taken:
            self._metrics.add("telemetry_events_lost", taken)
            self._tell(why)

    def _push(self, make: Callable[[], TelemetryEvent]) -> bool:
        if self.ended or not self._alive:
            return False
        try:
            letter = self._letter(make())
        except Exception:  # noqa: BLE001  # whatever it was: telemetry harms nobody
            _log.exception("an event of session %s could not be recorded", self._session_id)
            return False
        if not self.outbox.push(letter):
            self._metrics.add("telemetry_events_lost")
            self._tell("too many wait to be sent")
            return False
        self._metrics.add("telemetry_events")
        if self.outbox.unreleased >= _THRESHOLD:
            self.outbox.release()
        return True

    def _letter(self, event: TelemetryEvent) -> Letter:
        size, session_id = len(encode_json(event)), self._session_id or ""
        if size <= _LARGEST:
            return Letter(event, size, session_id)
        assert isinstance(event, GenericEvent)  # all others are bounded
        event = structs.replace(event, event_data={"left_out": f"{size} bytes of data"})
        return Letter(event, len(encode_json(event)), session_id)

    def _tell_repeats(self) -> None:
        for name, data, severity in self._repeats.take():
            self.record(name, data, severity)

    def _tell(self, why: str) -> None:
        lost = self.outbox.refused + self.outbox.given_up
        if lost >= 2 * self._told:  # said at 1, 2, 4, ... of them: a log is no place for ten thousand lines
            self._told = lost
            whose = "a session that was not created" if self._session_id is None else f"session {self._session_id}"
            _log.warning("telemetry of %s: %d events are lost: %s", whose, lost, why)

    def __repr__(self) -> str:
        return f"<Telemetry of session {self._session_id}>"
