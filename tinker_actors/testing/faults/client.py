"""Faults of the client's side: its actors, its callers, its event loop."""

from __future__ import annotations

from typing import ClassVar

from tinker_actors.errors import InvalidInput
from tinker_actors.testing.faults.kinds import FaultKind, not_negative, positive

__all__ = ["AtStep", "BlockLoop", "CancelCaller", "ClientFault", "CrashActor", "CrashAt", "KillRuntime"]


class ClientFault(FaultKind, frozen=True, kw_only=True):
    """Something that happens within the client's program."""

    where: ClassVar[str] = "a client's program"


class CrashAt(ClientFault, frozen=True, kw_only=True):
    """The ``nth`` time that the code reaches ``point``, it crashes there with InjectedCrash."""

    loses_answers: ClassVar[bool] = True

    point: str
    nth: int = 1

    def __post_init__(self) -> None:
        ClientFault.__post_init__(self)
        positive("nth", self.nth)
        if not self.point:
            raise InvalidInput("point", "is empty", 'Give the name of a point, such as "training.sent"')


class AtStep(ClientFault, frozen=True, kw_only=True):
    """A fault before the scheduler's step number ``step``, counted from the runtime's start."""

    step: int

    def __post_init__(self) -> None:
        ClientFault.__post_init__(self)
        positive("step", self.step)


class CrashActor(AtStep, frozen=True, kw_only=True):
    """The actor whose path ends with ``actor`` ("training-0", "heartbeat", ...) crashes, whatever it is doing.

    Where several have such a path the first that was started does; where none lives nothing happens.
    """

    loses_answers: ClassVar[bool] = True

    actor: str

    def __post_init__(self) -> None:
        AtStep.__post_init__(self)
        if not self.actor:
            raise InvalidInput("actor", "is empty", 'Give the end of a path, such as "training-0"')


class CancelCaller(AtStep, frozen=True, kw_only=True):
    """The call or wait that has lasted longest is cancelled by its caller: of ``World.calling()``'s blocks."""


class KillRuntime(AtStep, frozen=True, kw_only=True):
    """The client's process dies, as by SIGKILL; what its disk had not synced may be lost or torn.

    The same program runs again with what is left on the disk: one that resumes ends as if nothing had been.
    """


class BlockLoop(AtStep, frozen=True, kw_only=True):
    """The event loop is held for ``seconds``: time passes, and nothing else happens in it."""

    loses_answers: ClassVar[bool] = True

    seconds: float

    def __post_init__(self) -> None:
        AtStep.__post_init__(self)
        not_negative("seconds", self.seconds)
