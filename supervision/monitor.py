"""Watching another's life."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from supervision.message import Down

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace

__all__ = ["Monitor"]


@final
class Monitor:
    """Fires once; cancel() before it has fired and it never will."""

    __slots__ = ("_callback", "_place", "owner")

    def __init__(self, place: ActorPlace, callback: Callable[[Down], object]) -> None:
        self._place: ActorPlace | None = place
        self._callback = callback
        self.owner: dict[Any, None] | None = None
        """Where it is kept until it has fired or was cancelled."""

    @property
    def active(self) -> bool:
        """Whether it may still fire."""
        return self._place is not None

    def cancel(self) -> None:
        """Idempotent."""
        place, self._place = self._place, None
        if place is not None and place.monitors is not None:
            place.monitors.pop(self, None)
        if self.owner is not None:
            self.owner.pop(self, None)

    def fire(self, down: Down) -> None:
        if self._place is not None:
            self._place = None
            if self.owner is not None:
                self.owner.pop(self, None)
            self._callback(down)
