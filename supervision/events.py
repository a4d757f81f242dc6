"""What happens in a system, as a stream of typed events, delivered synchronously to listeners."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Self, final

import msgspec

from supervision.errors import CrashReport, StopReason, SupervisionError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ActorBusy",
    "ActorCrashed",
    "ActorDegraded",
    "ActorEnded",
    "ActorRestarted",
    "ActorRestarting",
    "ActorStarted",
    "ActorStuck",
    "AutoShutdown",
    "Event",
    "Events",
    "LateReply",
    "ListenerFailed",
    "LoopHeld",
    "PlaceClosed",
    "ReplyRefused",
    "Subscription",
    "SupervisorGaveUp",
    "TaskFailed",
    "Undelivered",
]


class Event(msgspec.Struct, frozen=True, eq=False):
    """Something happened at `path`."""

    path: str


class ActorStarted(Event, frozen=True, eq=False, gc=False):
    """init() has finished, for the first time at this place."""

    incarnation: int


class ActorRestarted(Event, frozen=True, eq=False, gc=False):
    """init() of a later incarnation has finished."""

    incarnation: int


class ActorCrashed(Event, frozen=True, eq=False):
    """An incarnation, or its init(), raised; or a supervisor failed."""

    incarnation: int
    crash: CrashReport
    starting: bool = False
    """Whether it was the first init(): whoever starts the actor gets the error."""


class ActorEnded(Event, frozen=True, eq=False):
    """An incarnation has ended, whatever the reason; terminate() is over."""

    incarnation: int
    reason: StopReason


class ActorRestarting(Event, frozen=True, eq=False, gc=False):
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


class AutoShutdown(Event, frozen=True, eq=False):
    """A significant child has ended by itself, and so its supervisor shuts down."""

    child: str
    """The child's path."""


class TaskFailed(Event, frozen=True, eq=False):
    """A supervised task has raised, and nobody has asked for its result: its handle is gone, or the system ends."""

    crash: CrashReport


class LateReply(Event, frozen=True, eq=False):
    """A reply came when its caller had left, or when the call had been answered."""

    message: object


class ReplyRefused(Event, frozen=True, eq=False):
    """A reply was not of the type that its call declares (see open_system's strict_replies): its caller got `error`
    instead, a WrongReply, or InvalidSpec for a type that can't be told.
    """

    message: object
    error: SupervisionError


class Undelivered(Event, frozen=True, eq=False):
    """An accepted message was never handled to its end.

    why: closed (the place closed with the message queued), in_hand (its incarnation ended while handling it),
    dropped (drop_oldest, or mailbox dropped on restart), unknown (the new incarnation declares no handler),
    dead_letter (its re-deliveries are used up), not_in_state (a state machine has no handler for it in its state).
    """

    message: object
    why: str


class ActorStuck(Event, frozen=True, eq=False):
    """An incarnation did not end by its last deadline: it swallows Cancelled, or waits for a thread."""

    incarnation: int
    stack: tuple[str, ...]


class ActorBusy(Event, frozen=True, eq=False):
    """A handler has been at one message for longer than its spec's `busy_alarm`; told again each time that has
    doubled.
    """

    incarnation: int
    message_type: str
    seconds: float
    where: str
    """Where in the user's code it waits: `file:line in function`."""


class LoopHeld(Event, frozen=True, eq=False):
    """One step of a task kept all others from running for longer than the system's `loop_alarm`. `path` is that of
    the actor the task belongs to, or else the task's name.
    """

    task: str
    """The task's name."""
    seconds: float
    """Of real time."""
    where: str
    """Where the task came back to the loop: `file:line in function`, or "its end"."""
    message_type: str | None
    """The message whose handler took the longest of it, if it was a handler of an actor."""


class ListenerFailed(Event, frozen=True, eq=False):
    """A listener raised and was unsubscribed, or a callback (monitor, on_close, on_undelivered) of this place
    raised.
    """

    error: BaseException


@final
class Subscription:
    """Ends with cancel(), or with the `with` block it was opened for."""

    __slots__ = ("_events", "active", "callback")

    def __init__(self, events: Events, callback: Callable[[Event], object]) -> None:
        self._events = events
        self.callback = callback
        self.active = True
        """Whether calls may still come. Read only."""

    def cancel(self) -> None:
        """No call comes after this. Idempotent."""
        self._events.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


@final
class Events:
    """Listeners are plain functions, called in order of subscription, inside the step where the event happened:
    they must be quick and must not block. One that raises is unsubscribed, logged and reported to the others; it
    never disturbs an actor. One that raises SystemExit ends the system, in order.
    """

    __slots__ = ("_abort", "_subscriptions", "active")

    def __init__(self, abort: Callable[[BaseException], None]) -> None:
        self._abort = abort
        self._subscriptions: tuple[Subscription, ...] = ()
        self.active = False
        """Whether anyone listens. Read only."""

    def subscribe(self, callback: Callable[[Event], object]) -> Subscription:
        """From now on `callback(event)` is called for each event, until the subscription is cancelled."""
        subscription = Subscription(self, callback)
        self._subscriptions = (*self._subscriptions, subscription)
        self.active = True
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """What subscription.cancel() does."""
        subscription.active = False
        self._subscriptions = tuple(known for known in self._subscriptions if known is not subscription)
        self.active = bool(self._subscriptions)

    def emit(self, event: Event) -> None:
        """Tell everyone who listens now."""
        for subscription in self._subscriptions:
            try:
                if subscription.active:  # not cancelled by a listener before it
                    subscription.callback(event)
            except Exception as error:
                self.remove(subscription)
                logging.getLogger("supervision").exception("a listener failed on %s and was removed", event)
                self.emit(ListenerFailed(event.path, error))
            except BaseException as error:  # noqa: BLE001  # open_system raises it
                self.remove(subscription)
                self._abort(error)

    def clear(self) -> None:
        """Cancel every subscription."""
        for subscription in self._subscriptions:
            subscription.active = False
        self._subscriptions = ()
        self.active = False
