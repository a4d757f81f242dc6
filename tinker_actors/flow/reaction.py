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

__all__ = [
    "Reaction",
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
