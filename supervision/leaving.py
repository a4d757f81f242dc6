"""Handlers that are cancelled when their caller leaves (opt-in, Call.cancel_on_leave).

The loop of an actor knows nothing of it: the handlers of such calls are wrapped, anew for each life. A state machine
wraps its own, message by message: what it does once a handler has returned is not to be cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast, final

import trio

from supervision.actor import Handler
from supervision.message import cancels_on_leave

if TYPE_CHECKING:
    from supervision.incarnation import Incarnation

__all__: list[str] = []


@final
class Cancellable:
    """A handler, to be called like one."""

    __slots__ = ("_cancelled", "_handler", "_life")

    def __init__(self, life: Incarnation, handler: Handler, cancelled: Callable[[], None] | None = None) -> None:
        self._life = life
        self._handler = handler
        self._cancelled = cancelled
        """Called when the handler has been cancelled."""

    def __call__(self, actor: object, message: object) -> object:
        result = self._handler(actor, message)
        # A message type may take back what its base has opted for; and such a message may come as a cast.
        if self._life.cell is None or not cancels_on_leave(type(message)) or not isinstance(result, CoroutineType):
            return result
        return self._finish(cast("Coroutine[Any, Any, object]", result))

    async def _finish(self, result: Coroutine[Any, Any, object]) -> object:
        life = self._life
        cell = life.cell
        assert cell is not None
        scopes = life.place.system.leaving
        with trio.CancelScope() as scope:
            scopes[cell] = scope
            if cell.done:
                scope.cancel(reason="its caller has left")
            try:
                return await result
            finally:
                del scopes[cell]
        # Nobody is to be answered, not even late.
        if life.deferred is not None:
            life.deferred.pop(cell, None)
        if life.envelope is None:
            life.envelope = cell
        life.cell = None
        if self._cancelled is not None:
            self._cancelled()
        return None


def cancellable(life: Incarnation, handlers: dict[type, Handler]) -> dict[type, Handler]:
    """The same handlers for this one life, those of calls that cancel on leave wrapped."""
    wrapped = {known: Cancellable(life, handler) for known, handler in handlers.items() if cancels_on_leave(known)}
    return handlers | wrapped
