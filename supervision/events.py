"""What happens in a system, as a stream of typed events, delivered synchronously to listeners."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from supervision.errors import CrashReport, StopReason

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ActorCrashed",
    "ActorDegraded",
    "ActorEnded",
    "ActorRestarted",
    "ActorRestarting",
    "ActorStarted",
    "ActorStuck",
    "Event",
    "Events",
    "LateReply",
    "ListenerFailed",
    "LoopHeld",
    "PlaceClosed",
    "Subscription",
    "SupervisorGaveUp",
    "Undelivered",
]


class Event(msgspec.Struct, frozen=True, eq=False):
    """Something happened at `path`."""

    path: str


class ActorStarted(Event, frozen=True, eq=False):
    """init() has finished, for the first time at this place."""

    incarnation: int


class ActorRestarted(Event, frozen=True, eq=False):
    """init() of a later incarnation has finished."""

    incarnation: int


class ActorCrashed(Event, frozen=True, eq=False):
    """An incarnation, or its init(), raised; or a supervisor failed."""

    incarnation: int
    crash: CrashReport


class ActorEnded(Event, frozen=True, eq=False):
    """An incarnation has ended, whatever the reason; terminate() is over."""

    incarnation: int
    reason: StopReason


class ActorRestarting(Event, frozen=True, eq=False):
    """The supervisor will start the next incarnation after `delay` seconds."""

    incarnation: int
    """Of the one to come."""
    delay: float


class PlaceClosed(Event, frozen=True, eq=False):
    """The place takes no more messages: its actor will not come back by itself."""

    reason: StopReason


class ActorDegraded(Event, frozen=True, eq=False):
    """A child crashed too often and was given up alone."""

    history: tuple[CrashReport, ...]


class SupervisorGaveUp(Event, frozen=True, eq=False):
    """A supervisor's restart intensity was exceeded; it stops its children and fails (or ends degraded)."""

    history: tuple[CrashReport, ...]


class LateReply(Event, frozen=True, eq=False):
    """A reply came when its caller had left, or when the call had been answered."""

    message: object


class Undelivered(Event, frozen=True, eq=False):
    """An accepted message was never handled to its end.

    why: closed (the place closed with the message queued), in_hand (its incarnation ended while handling it),
    dropped (drop_oldest, or mailbox dropped on restart), unknown (the new incarnation declares no handler),
    dead_letter (its re-deliveries are used up).
    """

    message: object
    why: str


class ActorStuck(Event, frozen=True, eq=False):
    """An incarnation did not end by its last deadline: it swallows Cancelled, or waits for a thread."""

    incarnation: int
    stack: tuple[str, ...]


class LoopHeld(Event, frozen=True, eq=False):
    """One step of this actor's task held the event loop for `seconds`."""

    seconds: float


class ListenerFailed(Event, frozen=True, eq=False):
    """A listener raised and was unsubscribed; `path` names the event's."""

    error: BaseException


class Subscription:
    """Ends with cancel()."""

    __slots__ = ("_callback", "_events")

    def __init__(self, events: Events, callback: Callable[[Event], object]) -> None:
        self._events = events
        self._callback = callback

    def cancel(self) -> None:
        """No call comes after this. Idempotent."""
        self._events.unsubscribe(self._callback)


class Events:
    """Listeners are plain functions, called in order of subscription, inside the step where the event happened:
    they must be quick and must not block. One that raises is unsubscribed, logged and reported to the others; it
    never disturbs an actor.
    """

    __slots__ = ("_listeners",)

    def __init__(self) -> None:
        self._listeners: tuple[Callable[[Event], object], ...] = ()

    def subscribe(self, callback: Callable[[Event], object]) -> Subscription:
        """From now on `callback(event)` is called for each event."""
        self._listeners = (*self._listeners, callback)
        return Subscription(self, callback)

    def unsubscribe(self, callback: Callable[[Event], object]) -> None:
        self._listeners = tuple(known for known in self._listeners if known is not callback)

    @property
    def active(self) -> bool:
        return bool(self._listeners)

    def emit(self, event: Event) -> None:
        for callback in self._listeners:
            try:
                callback(event)
            except Exception as error:
                self.unsubscribe(callback)
                logging.getLogger("supervision").exception("a listener failed on %s and was removed", event)
                self.emit(ListenerFailed(event.path, error))

    def clear(self) -> None:
        self._listeners = ()
