"""Faults of the server: what it loses, and when it does not work."""

from __future__ import annotations

from typing import ClassVar, Final, Literal, Protocol

from tinker_actors.errors import InvalidInput
from tinker_actors.testing.faults.kinds import AtRequest, Ending, not_negative

__all__ = [
    "CorruptModels",
    "ExpireSessions",
    "JumpClock",
    "LosePromises",
    "PauseQueue",
    "RestartServer",
    "ServerFault",
    "ServerUnderTest",
]

_FARTHEST: Final = 10 * 366 * 86_400.0


class ServerFault(AtRequest, frozen=True, kw_only=True):
    """Something that happens to the server ``later`` seconds after the ``nth`` request to ``path``: before it acts
    on that request where this is 0.
    """

    where: ClassVar[str] = "a simulated server"
    later: float = 0.0

    def __post_init__(self) -> None:
        AtRequest.__post_init__(self)
        not_negative("later", self.later)


class LosePromises(ServerFault, frozen=True, kw_only=True):
    """Every promise given so far is forgotten, with its result; the models go on."""


class PauseQueue(ServerFault, frozen=True, kw_only=True):
    """No operation and no sample begins for ``seconds``; polls are told that the queue is paused."""

    seconds: float

    def __post_init__(self) -> None:
        ServerFault.__post_init__(self)
        not_negative("seconds", self.seconds)


class ExpireSessions(ServerFault, frozen=True, kw_only=True):
    """Every session ends as if it had been silent for too long, and what belongs to it with it."""


class CorruptModels(ServerFault, frozen=True, kw_only=True):
    """Every model's weights are spoilt, as by a crash within an operation: its run is said to be corrupted."""


class RestartServer(ServerFault, frozen=True, kw_only=True):
    """The server dies at once, and is there again after ``down`` seconds.

    It has its ``memory`` again, its ``disk`` (checkpoints, not sessions, models or promises), or ``nothing``.
    """

    loses_answers: ClassVar[bool] = True

    keeps: Literal["memory", "disk", "nothing"] = "disk"
    down: float = 1.0

    def __post_init__(self) -> None:
        ServerFault.__post_init__(self)
        not_negative("down", self.down)

    @property
    def ending(self) -> Ending:
        """Where nothing is kept, checkpoints are gone: what loads one fails."""
        return Ending.ERROR if self.keeps == "nothing" else Ending.EQUAL


class JumpClock(ServerFault, frozen=True, kw_only=True):
    """The time of day is set anew, ``seconds`` later or, where they are negative, earlier: at the server, or at the
    machine of the ``client``. What lives by it (an expiry, a token) ends as much sooner or later.
    """

    seconds: float
    client: bool = False

    def __post_init__(self) -> None:
        ServerFault.__post_init__(self)
        if not abs(self.seconds) <= _FARTHEST:
            raise InvalidInput("seconds", f"{self.seconds} is out of range", "Use up to ten years, forward or back")


class ServerUnderTest(Protocol):
    """What server faults happen to."""

    async def suffer(self, fault: ServerFault) -> None:
        """Let ``fault`` happen now, to its end."""
        ...
