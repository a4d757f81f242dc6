"""Handlers that are watched: for how long they are at one message, and which of them holds the loop.

Opt-in, by a spec's busy_alarm or a system's loop_alarm: the loop of an actor knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast, final

from supervision.actor import Handler
from supervision.doing import users_place
from supervision.events import ActorBusy

if TYPE_CHECKING:
    from supervision.incarnation import Incarnation

__all__: list[str] = []


def watched(life: Incarnation, handlers: dict[type, Handler]) -> dict[type, Handler]:
    """The same handlers for this one life, each in a wrapping that watches it."""
    bound = life.place.spec.busy_alarm
    watch = life.place.system.watch
    if watch is not None and not watch.alarmed:
        watch = None
    if bound is None and watch is None:
        return handlers

    def wrap(handler: Handler) -> Handler:
        def handle(actor: object, message: object) -> object:
            if watch is not None:
                watch.in_hand(message)
            result = handler(actor, message)
            if type(result) is CoroutineType:
                return finish(cast("Coroutine[Any, Any, object]", result), message)
            if watch is not None:
                watch.in_hand(None)
            return result

        return handle

    async def finish(result: Coroutine[Any, Any, object], message: object) -> object:
        alarm = None if bound is None else BusyAlarm(life, message, bound)
        try:
            return await result
        finally:
            if alarm is not None:
                alarm.timer.cancel()
            if watch is not None:
                watch.in_hand(None)

    return {message_type: wrap(handler) for message_type, handler in handlers.items()}


@final
class BusyAlarm:
    """Tells of one message when its handler has been at it for `bound` seconds, twice, four times that, ..."""

    __slots__ = ("_after", "_life", "_message", "_since", "timer")

    def __init__(self, life: Incarnation, message: object, bound: float) -> None:
        system = life.place.system
        self._life = life
        self._message = message
        self._since = system.now()
        self._after = bound
        self.timer = system.timers.at(self._since + bound, self._tell)

    def _tell(self) -> None:
        place = self._life.place
        system = place.system
        self._after *= 2
        self.timer = system.timers.at(self._since + self._after, self._tell)
        if system.events.active:
            message_type = type(self._message).__qualname__
            where = users_place(self._life.task)
            seconds = system.now() - self._since
            system.events.emit(ActorBusy(place.path, self._life.number, message_type, seconds, where))
