"""Telling of accepted messages that will not be handled: to listeners, and to whom the spec names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervision.callbacks import call_back
from supervision.events import Undelivered

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace

__all__: list[str] = []


def tell_undelivered(place: ActorPlace, message: object, why: str) -> None:
    """What the hook raises is reported, and stops nothing."""
    events = place.system.events
    if events.active:
        events.emit(Undelivered(place.path, message, why))
    hook = place.spec.on_undelivered
    if hook is not None:
        call_back(place, "on_undelivered", hook, place.path, message, why)
