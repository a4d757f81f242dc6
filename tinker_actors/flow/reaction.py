"""What each error means: one table for submitting, one for polling, and nothing else decides.

Sources: the retry rules of the official SDK 0.38, tightened where they would spin or repeat in vain.
"""

from __future__ import annotations

from enum import Enum, auto

from tinker_actors.errors import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APIStatusError,
)
from tinker_actors.server_class import ServerClass

__all__ = [
    "Reaction",
    "by_class",
    "by_order",
    "may_have_arrived",
    "while_calling",
    "while_checkpointing",
    "while_polling",
    "while_polling_save",
    "while_saving",
    "while_submitting",
]


class Reaction(Enum):
    """What the lane does next."""

    REPEAT = auto()
    """Again, under the same seq_id and idempotency key, after a back-off; counts towards an outage."""
    WAIT = auto()
    """Again after the time the server asked for; the server is well, so no outage."""
    PAUSE = auto()
    """Billing: again every few seconds for the time the server's configuration allows, then STOP."""
    RENEW = auto()
    """Renew the credential once and try again, then STOP."""
    FAIL = auto()
    """This operation fails; those behind it go on."""
    RECHECK = auto()
    """Again, three times at most (a proxy may have answered), then FAIL."""
    STOP = auto()
    """The lane stops with this error: nothing behind it can do better."""
    LOST = auto()
    """The server no longer holds the session, the model or the promise."""
    ARRIVED = auto()
    """The server has had it before, and its promise is not to be had."""
    UNKNOWN = auto()
    """Nobody can tell whether it took effect, and it might again if it were sent once more."""


def while_submitting(error: APIError) -> Reaction:
    """The reaction to ``error`` when an operation is being sent."""
    # of an unreadable promise: the server has the request, and a repeat under the same seq_id finds its promise
    return _reaction(error, refused=Reaction.FAIL, unreadable=Reaction.REPEAT)


def while_saving(error: APIError) -> Reaction:
    """The reaction when a checkpoint is being saved under a name: 409 says that there is one of this name, unless
    it names the seq_id that is due.
    """
    return Reaction.FAIL if _exists(error) else while_submitting(error)


def while_checkpointing(error: APIError) -> Reaction:
    """The reaction when a checkpoint is being saved that nobody has asked for: operations wait behind it, so what the
    server says of it is soon final, and only what concerns them, too, is waited for.
    """
    if isinstance(error, APIStatusError) and error.status not in (401, 404, 408, 410, 429):
        return Reaction.RECHECK if error.status >= 500 else Reaction.FAIL
    return while_submitting(error)


def while_renewing(error: APIError) -> Reaction:
    """The reaction when a session is created in the place of another: the server has taken the same request before,
    so that a refusal may be a proxy's, or a server's that is still starting.
    """
    reaction = while_submitting(error)
    return Reaction.RECHECK if reaction in (Reaction.FAIL, Reaction.STOP, Reaction.LOST) else reaction


def while_calling(error: APIError) -> Reaction:
    """The reaction to ``error`` of a request that changes nothing when it is repeated.

    What the server's x-should-retry says counts before its status.
    """
    if isinstance(error, APIStatusError) and error.status != 402:
        repeated = error.status in (408, 409, 429) or error.status >= 500
        if not (repeated if error.should_retry is None else error.should_retry):
            return Reaction.FAIL
        return Reaction.WAIT if error.status == 429 else Reaction.REPEAT
    return _reaction(error, refused=Reaction.FAIL, unreadable=Reaction.FAIL)


def while_polling(error: APIError) -> Reaction:
    """The reaction to ``error`` when a promise's result is being asked for."""
    return _reaction(error, refused=Reaction.RECHECK, unreadable=Reaction.RECHECK)


def while_polling_save(error: APIError) -> Reaction:
    """As ``while_polling``, for a checkpoint that is being saved under a name; 409 as in ``while_saving``."""
    return Reaction.FAIL if _exists(error) else while_polling(error)


def by_class(
    reaction: Reaction, error: APIError, server_class: ServerClass | None, seq_id: int, *, doubted: bool
) -> Reaction:
    """``reaction`` as it is for the training request ``seq_id`` at a server of this class; None: not known yet.

    ``doubted``: an earlier try may have arrived.
    """
    if server_class is ServerClass.NONE:
        return Reaction.UNKNOWN if doubted or may_have_arrived(error) else reaction
    return by_order(reaction, error, server_class, seq_id, doubted=doubted)


def by_order(
    reaction: Reaction, error: APIError, server_class: ServerClass | None, seq_id: int, *, doubted: bool
) -> Reaction:
    """``reaction``, but what a 409 proves of the training request ``seq_id`` where the server takes them in order.

    It also comes as what a promise holds (TuFT, WIRE 11.1). From a server of another class it proves nothing.
    """
    if server_class is not ServerClass.ORDERED or not isinstance(error, APIStatusError) or error.status != 409:
        return reaction
    if error.expected_seq_id is None:
        return Reaction.UNKNOWN if doubted and reaction is Reaction.STOP else reaction
    return Reaction.ARRIVED if error.expected_seq_id > seq_id else Reaction.LOST


def may_have_arrived(error: APIError) -> bool:
    """Whether the server may have acted on a submission that ended in ``error``, as far as anybody can tell."""
    if isinstance(error, APIConnectionError):
        return error.sent
    if isinstance(error, APIStatusError):
        return error.status == 408 or error.status >= 500
    return isinstance(error, APIResponseError)


def _exists(error: APIError) -> bool:
    return isinstance(error, APIStatusError) and error.status == 409 and error.expected_seq_id is None


def _reaction(error: APIError, *, refused: Reaction, unreadable: Reaction) -> Reaction:
    if isinstance(error, APIConnectionError):
        return Reaction.REPEAT
    if isinstance(error, APIResponseError):
        return unreadable
    if not isinstance(error, APIStatusError):
        return Reaction.STOP
    match error.status:
        case 429:
            return Reaction.WAIT
        case 402:
            return Reaction.PAUSE
        case 401:
            return Reaction.RENEW
        case 400 | 413 | 422:
            return refused
        case 404 | 410:
            return Reaction.LOST
        case 408:
            return Reaction.REPEAT
        case status if status >= 500:
            return Reaction.REPEAT
        case _:
            return Reaction.STOP
