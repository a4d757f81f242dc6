"""Messages: frozen data that one actor sends to another. A call expects a reply, a cast does not."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

import msgspec

from supervision.errors import InvalidSpec, StopReason
from supervision.quantities import is_whole

__all__ = ["Call", "Cast", "Down"]

R_co = TypeVar("R_co", covariant=True)


class Call(msgspec.Struct, Generic[R_co], frozen=True):
    """A request; the parameter is the type of its reply: `class GetInfo(Call[ModelInfo], frozen=True): ...`.

    With `cancel_on_leave = True` in the class body, a handler of such a call that waits for something is cancelled
    when the caller leaves (cancelled, or timed out); that is no crash, and the actor goes on with the next message.
    By default it goes on with this one, and its reply comes late.
    """

    cancel_on_leave: ClassVar[bool] = False


def cancels_on_leave(message_type: type) -> bool:
    """Whether it is a call that says so."""
    return issubclass(message_type, Call) and message_type.cancel_on_leave


class Cast(msgspec.Struct, frozen=True):
    """A one-way message. With `redeliver = N` in the class body, a cast in hand when its actor crashes is handed
    to the next incarnation up to N more times, and then reported as undelivered; the default is never. Raises
    InvalidSpec, when the class is made, for an N that is no number of times.
    """

    redeliver: ClassVar[int] = 0

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        given: object = vars(cls).get("redeliver", 0)
        if not (is_whole(given, 0) or hasattr(given, "__get__")):  # a field: each message has its own
            raise InvalidSpec(f"{cls.__qualname__}: redeliver must be a whole number of times, got {given!r}")


class Own(Cast, frozen=True):
    """The library's own: an actor tells itself."""


class Down(Cast, frozen=True):
    """A monitored incarnation has ended. Overtakes user messages; handle it with @handles(Down)."""

    path: str
    incarnation: int
    reason: StopReason
    """`reason.restarting` tells whether the place will have a next incarnation."""
