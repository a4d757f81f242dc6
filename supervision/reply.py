"""The parked reply cell of one call, and the handle by which an actor answers later.

A cell is answered once. Its caller is parked on it without a channel, an event or a cancel scope of its own: the
deadline is an entry in the system's timer heap. Whoever comes second (a late reply, a second reply, a timeout after
the reply) finds `done` set and changes nothing. An abort clears `task` first, so that nobody can wake the caller out
of some later wait.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, TypeVar, final

import trio
from outcome import Error, Value
from trio.lowlevel import Abort, enable_ki_protection, reschedule

from supervision.errors import AlreadyReplied, CallTimeout, InvalidSpec
from supervision.events import LateReply

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace
    from supervision.incarnation import Incarnation

__all__ = ["Reply"]

R_contra = TypeVar("R_contra", contravariant=True)


@final
class ReplyCell:
    """One call on its way: the message, who waits for the answer, and how far it has come."""

    __slots__ = ("begun", "deferred", "done", "message", "place", "task", "timeout")

    def __init__(self, place: ActorPlace, message: object, task: trio.lowlevel.Task, timeout: float) -> None:
        self.place = place
        self.message = message
        self.task: trio.lowlevel.Task | None = task
        self.timeout = timeout
        self.done = False
        self.begun = False
        self.deferred = False

    @enable_ki_protection
    def send(self, value: object) -> bool:
        """Answer; False if nobody waits any more."""
        if self.done:
            self.late()
            return False
        self.done = True
        task = self.task
        self.task = None
        if self.timeout != math.inf:
            self.place.system.timers.live -= 1
        if task is not None:
            reschedule(task, Value(value))
        return True

    @enable_ki_protection
    def fail(self, error: BaseException) -> bool:
        """Answer with an error; False if nobody waits any more."""
        if self.done:
            self.late()
            return False
        self.done = True
        task = self.task
        self.task = None
        if self.timeout != math.inf:
            self.place.system.timers.live -= 1
        if task is not None:
            reschedule(task, Error(error))
        return True

    def late(self) -> None:
        system = self.place.system
        system.late_replies += 1
        system.events.emit(LateReply(self.place.path, self.message))

    def abort(self, _raise_cancel: object) -> Abort:
        """trio's abort function: the caller is cancelled."""
        self.task = None
        self.done = True
        if self.timeout != math.inf:
            self.place.system.timers.live -= 1
        self._leave()
        return Abort.SUCCEEDED

    def expire(self) -> None:
        """The deadline has come (called by the timer task, only while not done)."""
        place = self.place
        error = CallTimeout(
            place.path,
            self.message,
            self.timeout,
            queued=place.inbox.count,
            begun=self.begun,
            doing=place.doing(),
        )
        self.fail(error)
        self._leave()

    def _leave(self) -> None:
        """Nobody waits any more."""
        if not self.begun:
            self.place.inbox.withdraw(self)
            return
        scope = self.place.system.leaving.get(self)
        if scope is not None:
            scope.cancel(reason="its caller has left")


@final
class Reply(Generic[R_contra]):
    """Answers one call later, from any task of the actor's own. If the incarnation ends first, the caller gets
    ActorDown.
    """

    __slots__ = ("_cell", "_life", "_used")

    def __init__(self, cell: ReplyCell, life: Incarnation) -> None:
        self._cell = cell
        self._life = life
        self._used = False

    @property
    def message(self) -> object:
        """The call that waits for this reply."""
        return self._cell.message

    @property
    def wanted(self) -> bool:
        """Whether the caller still waits."""
        return not self._cell.done

    def send(self, value: R_contra) -> bool:
        """Answer with a value. False (and a LateReply event) if the caller has left; False, too, if the system is
        strict about replies and refuses this one: the caller gets WrongReply. Raises AlreadyReplied, WrongThread.
        """
        self._use()
        strict = self._cell.place.system.strict_replies
        if strict is not None and strict.refuses(self._cell, value):
            return False
        return self._cell.send(value)

    def fail(self, error: BaseException) -> bool:
        """Answer with an error, which is raised at the caller; the actor lives on. Raises AlreadyReplied,
        WrongThread, and InvalidSpec for what can't be raised.
        """
        if not isinstance(error, BaseException):  # pyright: ignore[reportUnnecessaryIsInstance]
            cell = self._cell
            raise InvalidSpec(
                f"fail() of {type(cell.message).__qualname__} to {cell.place.path}: it takes an exception, made with "
                f"its arguments, got {error!r}"
            )
        self._use()
        return self._cell.fail(error)

    def _use(self) -> None:
        self._cell.place.system.check_thread(self._cell.place.path, "a reply")
        if self._used:
            raise AlreadyReplied(
                f"{type(self._cell.message).__qualname__} to {self._cell.place.path} has had its reply"
            )
        self._used = True
        deferred = self._life.deferred
        if deferred is not None:
            deferred.pop(self._cell, None)

    def __repr__(self) -> str:
        return f"<Reply to {type(self._cell.message).__qualname__} wanted={self.wanted}>"
