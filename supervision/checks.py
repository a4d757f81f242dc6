"""What is said at once to whoever sends what an actor does not take. Off the hot path: a message of a type that is
declared for this very kind of sending never comes here, unless the place is closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from supervision.errors import NotRunning, WrongMessageKind
from supervision.message import Call, Cast

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace

__all__: list[str] = []


def check_call(place: ActorPlace, message: object) -> None:
    """Raises WrongMessageKind, NotRunning or UnknownMessage if it can't be called with this."""
    check_kind(place, message, Call, "call()")
    _check_taken(place, message)


def check_cast(place: ActorPlace, message: object) -> None:
    """Raises WrongMessageKind, NotRunning or UnknownMessage if this can't be cast to it."""
    check_kind(place, message, Cast, "cast()")
    _check_taken(place, message)


def check_kind(place: ActorPlace, message: object, kind: type[Call[object] | Cast], what: str) -> None:
    """Raises WrongMessageKind."""
    if isinstance(message, kind):
        return
    if isinstance(message, type) and issubclass(message, (Call, Cast)):
        advice = f"which is a type of messages; make one: {message.__qualname__}(...)"
    elif isinstance(message, Call):
        advice = "which is a Call: it expects a reply; send it with call(), or derive its type from Cast"
    elif isinstance(message, Cast):
        advice = "which is a Cast: it has no reply; send it with cast(), or derive its type from Call[...]"
    else:
        advice = f"which is no message; derive its type from supervision.{kind.__name__}"
    raise WrongMessageKind(place.path, what, cast("object", message), advice)


def _check_taken(place: ActorPlace, message: object) -> None:
    if not place.accepting:
        raise place.not_running()
    if place.opening and place.number == 1 and not place.handlers:
        raise NotRunning(place.path, place.state, "it has not begun yet; wait until start_child() has returned")
    place.require_handler(type(message))
