"""What one incarnation handles, and how: the handlers of its class, wrapped where someone has opted for more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervision.leaving import cancellable
from supervision.watched import watched

if TYPE_CHECKING:
    from supervision.actor import Actor, Handler
    from supervision.incarnation import Incarnation

__all__: list[str] = []


def take_handlers(life: Incarnation, actor: Actor) -> dict[type, Handler]:
    """Of the actor, for this one life; its place takes such messages from now on. Raises InvalidSpec."""
    place = life.place
    system = place.system
    handlers = actor.__handlers__
    if system.strict_replies is not None:
        handlers = system.strict_replies.checked(life, handlers)
    if place.spec.busy_alarm is not None or system.watch is not None:
        handlers = watched(life, handlers)
    if actor.__cancellable__ and not actor.__cancels_itself__:
        handlers = cancellable(life, handlers)
    place.handlers = handlers
    place.calls = actor.__calls__
    place.casts = actor.__casts__
    return handlers
