"""Faults of the network, and of what stands between client and server."""

from __future__ import annotations

from typing import ClassVar

from tinker_actors.errors import InvalidInput
from tinker_actors.testing.faults.kinds import AtRequest, Ending, not_negative, positive

__all__ = [
    "Delay",
    "DropAfter",
    "DropBefore",
    "Duplicate",
    "NetworkFault",
    "Partition",
    "RefuseSeqId",
    "Reorder",
    "Reset",
    "Status",
    "Truncate",
]

_POLL = "/retrieve_future"
_RECHECKS = 3  # a proxy may have answered a poll with 400: WIRE 3.3


class NetworkFault(AtRequest, frozen=True, kw_only=True):
    """Something that happens to wire attempts ``nth`` to ``nth + times - 1`` on paths that end with ``path``."""

    where: ClassVar[str] = "the network"
    times: int = 1

    def __post_init__(self) -> None:
        AtRequest.__post_init__(self)
        positive("times", self.times)


class DropBefore(NetworkFault, frozen=True, kw_only=True):
    """The connection is lost before the server sees the request; ``known`` when the client can tell that."""

    loses_answers: ClassVar[bool] = True

    known: bool = False


class DropAfter(NetworkFault, frozen=True, kw_only=True):
    """The server acts on the request, and its reply is lost."""

    loses_answers: ClassVar[bool] = True


class Reset(NetworkFault, frozen=True, kw_only=True):
    """The connection is reset while the server works: the client knows at once, so its re-send may overtake."""

    loses_answers: ClassVar[bool] = True


class Delay(NetworkFault, frozen=True, kw_only=True):
    """The request (or, with ``reply``, the reply) takes ``seconds`` longer.

    When that is more than the client waits, a delayed request still arrives, provided that the transport was given
    a nursery to carry it in: after its own re-send, and after whatever came behind it.
    """

    loses_answers: ClassVar[bool] = True

    seconds: float
    reply: bool = False

    def __post_init__(self) -> None:
        NetworkFault.__post_init__(self)
        not_negative("seconds", self.seconds)


class Reorder(NetworkFault, frozen=True, kw_only=True):
    """The request is held back until ``behind`` others have been answered, for ``seconds`` at most."""

    loses_answers: ClassVar[bool] = True

    behind: int = 1
    seconds: float = 5.0

    def __post_init__(self) -> None:
        NetworkFault.__post_init__(self)
        positive("behind", self.behind)
        not_negative("seconds", self.seconds)


class Duplicate(NetworkFault, frozen=True, kw_only=True):
    """The server gets the request twice, as from a proxy that repeats it; the client sees the second reply."""


class Partition(NetworkFault, frozen=True, kw_only=True):
    """From this request on nothing passes for ``seconds``, in either direction and whatever its path."""

    loses_answers: ClassVar[bool] = True

    seconds: float

    def __post_init__(self) -> None:
        NetworkFault.__post_init__(self)
        not_negative("seconds", self.seconds)


class Status(NetworkFault, frozen=True, kw_only=True):
    """The answer is an error ``status``; with ``after`` a proxy gives it when the server has acted already.

    ``retry_after`` is the Retry-After header in seconds, ``body`` the JSON of the answer, if it is no detail.
    """

    loses_answers: ClassVar[bool] = True

    status: int
    retry_after: float | None = None
    after: bool = False
    body: str | None = None

    def __post_init__(self) -> None:
        NetworkFault.__post_init__(self)
        if not 200 <= self.status <= 599:
            raise InvalidInput("status", f"{self.status} is no status of HTTP", "Use 200 to 599")
        if self.retry_after is not None:
            not_negative("retry_after", self.retry_after)

    @property
    def ending(self) -> Ending:
        """By the status: what is asked again, waited for, or made good by another model, ends bit-equal.

        So does a 401, once the credential is renewed, and a poll that is refused three times (WIRE 3.3).
        """
        if self.status in (401, 402, 404, 408, 410, 429) or self.status >= 500:
            return Ending.EQUAL
        refused = self.status in (400, 413, 422)
        return Ending.EQUAL if refused and self.path == _POLL and self.times <= _RECHECKS else Ending.ERROR


class RefuseSeqId(NetworkFault, frozen=True, kw_only=True):
    """The answer is 409, which names ``expected`` as the seq_id that is due (WIRE 11.1).

    At a server that keeps the order it shows that a request has arrived or was lost, and the model is made anew; any
    other gives no such answer, and its client stops.
    """

    ends: ClassVar[Ending] = Ending.ERROR
    expected: int

    def __post_init__(self) -> None:
        NetworkFault.__post_init__(self)
        positive("expected", self.expected)


class Truncate(NetworkFault, frozen=True, kw_only=True):
    """The connection is lost when ``keep`` bytes of the reply's body have arrived."""

    loses_answers: ClassVar[bool] = True

    keep: int = 0

    def __post_init__(self) -> None:
        NetworkFault.__post_init__(self)
        not_negative("keep", self.keep)
