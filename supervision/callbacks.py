"""Code of the user's that is called within a step of the library's: hooks and monitors (listeners: see events.py)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVarTuple, Unpack

from supervision.events import ListenerFailed

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace

__all__: list[str] = []

Ts = TypeVarTuple("Ts")


def call_back(place: ActorPlace, what: str, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
    """What it raises is reported, and stops nothing. SystemExit and ^C end the system, in order: passed on here, they
    would cut that step in two.
    """
    try:
        callback(*args)
    except Exception as error:
        logging.getLogger("supervision").exception("%s of %s failed", what, place.path)
        place.system.events.emit(ListenerFailed(place.path, error))
    except BaseException as error:  # noqa: BLE001  # open_system raises it
        place.system.abort(error)
