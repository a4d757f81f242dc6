"""Telling of accepted messages that will not be handled: to listeners, and to whom the spec names."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from supervision.events import ListenerFailed, Undelivered

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace

__all__: list[str] = []


def tell_undelivered(place: ActorPlace, message: object, why: str) -> None:
    """What the hook raises is reported, and stops nothing."""
    events = place.system.events
    if events.active:
        events.emit(Undelivered(place.path, message, why))
    hook = place.spec.on_undelivered
    if hook is None:
        return
    try:
        hook(place.path, message, why)
    except Exception as error:
        logging.getLogger("supervision").exception("on_undelivered of %s failed", place.path)
        events.emit(ListenerFailed(place.path, error))
