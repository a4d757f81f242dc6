"""Every error of the library, in one tree.

SupervisionError
 |- ActorDown             the call was in hand, or queued, when its actor ended; carries the reason
 |- NotRunning            the place has no actor now and will get none by itself
 |   |- ActorStopped      it was stopped, or ended by its own will
 |   '- Degraded          it crashed too often; carries the history of crashes
 |- CallTimeout           no reply in time (a TimeoutError, too)
 |- MailboxFull           the message was not accepted
 |- CallCycle             waiting would wait for oneself; carries the chain
 |- UnknownMessage        the actor declares no handler for this type (a TypeError, too)
 |- WrongMessageKind      a cast was called, a call was cast, or what was sent is no message (a TypeError, too)
 |- WrongReply            with strict_replies: the reply is not of the call's type (a TypeError, too)
 |- AlreadyReplied        a second reply to one call
 |- NotInCall             a deferred reply was asked for where no call is in hand
 |- CannotDefer           a message was to be set aside where none is in hand, or twice
 |- NotInHandler          a state machine was told to move where no handler of it runs
 |- NotInThisState        the state machine has a handler for this type, but not in its present state
 |- IntensityExceeded     a supervisor gave up; carries the history of crashes
 |- LinkBroken            what an actor crashes with when one that it is linked with went down; carries the reason
 |- NameTaken             a registered name or a child's name is in use
 |- NameNotFound          no live actor under this name (a LookupError, too)
 |- ChildNotFound         the supervisor has no such child (a LookupError, too)
 |- ChildNotStopped       only a stopped child can be deleted
 |- TooManyChildren       max_children reached
 |- TaskCancelled         the task was cancelled by cancel()
 |- ResultTimeout         the task has not ended in time (a TimeoutError, too)
 |- InvalidKey            no partition for a key of this type (a TypeError, too)
 |- WrongThread           used from another thread than the system's (a RuntimeError, too)
 '- InvalidSpec           a spec or an argument makes no sense (a ValueError, too)
"""

from __future__ import annotations

import linecache
from typing import TYPE_CHECKING, Literal, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ActorDown",
    "ActorStopped",
    "AlreadyReplied",
    "CallCycle",
    "CallTimeout",
    "CannotDefer",
    "ChildNotFound",
    "ChildNotStopped",
    "CrashReport",
    "Degraded",
    "IntensityExceeded",
    "InvalidKey",
    "InvalidSpec",
    "LinkBroken",
    "MailboxFull",
    "NameNotFound",
    "NameTaken",
    "NotInCall",
    "NotInHandler",
    "NotInThisState",
    "NotRunning",
    "ResultTimeout",
    "StopReason",
    "SupervisionError",
    "TaskCancelled",
    "TooManyChildren",
    "UnknownMessage",
    "WrongMessageKind",
    "WrongReply",
    "WrongThread",
]


class CrashReport(msgspec.Struct, frozen=True, eq=False):
    """One crash: where, what, when. `error` is the exception without its traceback, which would keep the dead
    actor's frames alive; `frames` (file, line, function), outermost first, stand in for it.
    """

    path: str
    incarnation: int
    at: float
    """Seconds on trio's clock."""
    error: BaseException
    frames: tuple[tuple[str, int, str], ...] = ()
    message: object = None
    """The message in hand, if any."""

    @property
    def error_type(self) -> str:
        return type(self.error).__qualname__

    @property
    def text(self) -> str:
        return describe_error(self.error)

    def __str__(self) -> str:
        hand = f" while handling {type(self.message).__qualname__}" if self.message is not None else ""
        where = f" ({self.frames[-1][0]}:{self.frames[-1][1]})" if self.frames else ""
        return f"{self.path}#{self.incarnation} at {self.at:.3f}{hand}: {self.text}{where}"

    def render(self) -> str:
        """A traceback as text, source lines included where they can be read."""
        lines = [str(self)]
        for file, line, function in self.frames:
            lines.append(f"  {file}:{line} in {function}")
            source = linecache.getline(file, line).strip()
            if source:
                lines.append(f"    {source}")
        return "\n".join(lines)


class StopReason(msgspec.Struct, frozen=True, eq=False):
    """Why an incarnation ended.

    normal: by its own will; shutdown: asked to by its supervisor or the system; killed: asked to, and cancelled when
    its grace was over; cancelled: the world around the system was cancelled; crash: an error, in `crash`.
    """

    kind: Literal["normal", "shutdown", "killed", "cancelled", "crash"]
    crash: CrashReport | None = None
    detail: str = ""
    restarting: bool = False
    """Whether the place is to have a next incarnation (as far as was known when this one ended)."""

    @property
    def abnormal(self) -> bool:
        """What a transient child is restarted for."""
        return self.kind == "crash"

    @property
    def error(self) -> BaseException | None:
        return None if self.crash is None else self.crash.error

    def __str__(self) -> str:
        text = self.kind if self.crash is None else f"crash: {self.crash.text}"
        return f"{text} ({self.detail})" if self.detail else text


def members_of(error: BaseException) -> Sequence[BaseException]:
    """The members of a group; nothing for any other error."""
    return (
        cast("BaseExceptionGroup[BaseException]", error).exceptions if isinstance(error, BaseExceptionGroup) else ()
    )


def describe_error(error: BaseException) -> str:
    """`Type: text`, with the members of a group spelled out. Never raises: where the error's own str() does, the text
    says so.
    """
    name = type(error).__qualname__
    try:
        members = members_of(error)
        if members:
            title = cast("BaseExceptionGroup[BaseException]", error).message
            return f"{name}: {title} [{'; '.join(describe_error(e) for e in members)}]"
        text = str(error)
    except Exception as unreadable:  # noqa: BLE001  # whatever the user's str() raises, or groups nested too deep
        return f"{name}: (no text: its str() raised {type(unreadable).__qualname__})"
    return f"{name}: {text}" if text else name


def describe_history(history: Sequence[CrashReport]) -> str:
    return "".join(f"\n  - {crash}" for crash in history)


class SupervisionError(Exception):
    """The root of the tree above."""


class ActorDown(SupervisionError):
    """The call's actor ended before it replied. It may or may not have acted on the message if that was in hand."""

    def __init__(self, target: str, reason: StopReason, *, begun: bool) -> None:
        state = "while it handled this call" if begun else "before it began this call"
        super().__init__(f"{target} went down {state}: {reason}")
        self.target = target
        self.reason = reason
        self.begun = begun


class NotRunning(SupervisionError):
    """There is no actor at this place."""

    def __init__(self, target: str, status: str, detail: str = "") -> None:
        super().__init__(f"{target} is not running: {status}{'; ' + detail if detail else ''}")
        self.target = target
        self.status = status


class ActorStopped(NotRunning):
    """The actor has been stopped for good; its place takes no messages until it is started again."""


class Degraded(NotRunning):
    """The child crashed more often than its spec allows and was given up alone; restart_child() revives it."""

    def __init__(self, target: str, history: Sequence[CrashReport]) -> None:
        super().__init__(target, "degraded", f"it crashed too often:{describe_history(history)}")
        self.history = tuple(history)


class CallTimeout(SupervisionError, TimeoutError):
    """No reply within the call's timeout. The message was withdrawn if it had not been begun."""

    def __init__(self, target: str, message: object, timeout: float, *, queued: int, begun: bool, doing: str) -> None:
        state = "it had been begun" if begun else "it was withdrawn unbegun"
        super().__init__(
            f"{type(message).__qualname__} to {target}: no reply within {float(timeout):g} s; {state}; "
            f"{queued} queued; the callee {doing}"
        )
        self.target = target
        self.message = message
        self.timeout = timeout
        self.queued = queued
        self.begun = begun
        self.doing = doing


class MailboxFull(SupervisionError):
    """The mailbox is at its capacity; the message was not accepted (or, for drop_oldest, was dropped)."""

    def __init__(self, target: str, message: object, capacity: float, detail: str = "not accepted") -> None:
        full = "mailbox full (capacity" if capacity else "nobody idle there to take it (a rendezvous, capacity"
        super().__init__(f"{type(message).__qualname__} to {target}: {full} {capacity:g}), {detail}")
        self.target = target
        self.message = message
        self.capacity = capacity


class CallCycle(SupervisionError):
    """Waiting for this actor would be waiting for oneself. `chain` holds the paths, from the caller to itself."""

    def __init__(self, chain: Sequence[str], message: object) -> None:
        what = message if isinstance(message, str) else type(message).__qualname__
        super().__init__(
            f"{what}: this wait would never end: {' -> '.join(chain)}; "
            "use a cast, or call from a task of the actor's own"
        )
        self.chain = tuple(chain)


class UnknownMessage(SupervisionError, TypeError):
    """The actor declares no handler for this message type; nothing was enqueued."""

    def __init__(self, target: str, message_type: type, known: Sequence[str]) -> None:
        super().__init__(
            f"{target} has no handler for {message_type.__qualname__}; declare one with "
            f"@handles({message_type.__qualname__}). It handles: {', '.join(sorted(known)) or 'nothing'}"
        )
        self.target = target
        self.message_type = message_type


class WrongMessageKind(SupervisionError, TypeError):
    """Calls are called and casts are cast; what was sent is the other kind, or no message; nothing was enqueued."""

    def __init__(self, target: str, what: str, given: object, advice: str) -> None:
        kind = f"the class {given.__qualname__}" if isinstance(given, type) else f"a {type(given).__qualname__}"
        super().__init__(f"{what} to {target} was given {kind}, {advice}")
        self.target = target
        self.given = given


class WrongReply(SupervisionError, TypeError):
    """The actor's reply is not of the type that its Call declares (see open_system's strict_replies)."""

    def __init__(self, target: str, message: object, reply: object, declared: str) -> None:
        name = type(message).__qualname__
        super().__init__(
            f"{target} has answered {name} with a {type(reply).__qualname__}, where it declares {declared}; mend "
            f"what its handler returns, or declare the type: class {name}(Call[...])"
        )
        self.target = target
        self.message = message
        self.reply_type = type(reply)
        self.declared = declared


class AlreadyReplied(SupervisionError):
    """This call has had its reply; the second one changed nothing."""


class NotInCall(SupervisionError):
    """defer_reply() makes sense only in the handler of a Call, once."""


class CannotDefer(SupervisionError):
    """defer() makes sense only in the handler of a message, once, and not after defer_reply()."""


class NotInHandler(SupervisionError):
    """A state machine goes elsewhere and sets its timeouts in its init() and its handlers only."""


class NotInThisState(SupervisionError):
    """The state machine does not handle this message in its present state; it has done nothing."""

    def __init__(self, target: str, message_type: type, state: str, elsewhere: Sequence[str]) -> None:
        super().__init__(
            f"{target} has no handler for {message_type.__qualname__} in its state {state}; "
            f"it has one in: {', '.join(elsewhere)}"
        )
        self.target = target
        self.message_type = message_type
        self.state = state


class IntensityExceeded(SupervisionError):
    """More restarts than max_restarts within max_seconds."""

    def __init__(self, path: str, max_restarts: int, max_seconds: float, history: Sequence[CrashReport]) -> None:
        super().__init__(
            f"{path}: more than {max_restarts} restarts in {max_seconds:g} s:{describe_history(history)}"
        )
        self.path = path
        self.history = tuple(history)


class LinkBroken(SupervisionError):
    """The incarnation that this one was linked with has crashed or was killed. `first` and `first_reason` tell where
    it began: with links in a row these are not the neighbour's.
    """

    def __init__(self, path: str, other: str, incarnation: int, reason: StopReason) -> None:
        cause = reason.error
        chained = isinstance(cause, LinkBroken)
        self.first: str = cause.first if chained else f"{other}#{incarnation}"
        self.first_reason: StopReason = cause.first_reason if chained else reason
        began = f"by a link; it began with {self.first}: " if chained else ""
        super().__init__(f"{path} was linked with {other}#{incarnation}, which went down: {began}{self.first_reason}")
        self.other = other
        self.incarnation = incarnation
        self.reason = reason


class NameTaken(SupervisionError):
    """The name belongs to someone else."""


class NameNotFound(SupervisionError, LookupError):
    """No live actor is registered under this name."""


class ChildNotFound(SupervisionError, LookupError):
    """The supervisor has no child of this name."""


class ChildNotStopped(SupervisionError):
    """The child lives, or is to live again; stop_child() it before delete_child()."""

    def __init__(self, target: str, state: str) -> None:
        super().__init__(
            f"{target} is {state}; only a stopped or degraded child can be deleted: stop_child() it first"
        )
        self.target = target
        self.state = state


class TooManyChildren(SupervisionError):
    """The dynamic supervisor is at its max_children."""


class TaskCancelled(SupervisionError):
    """The task has no result: it was cancelled by cancel()."""

    def __init__(self, target: str) -> None:
        super().__init__(f"{target} has no result: it was cancelled by cancel()")
        self.target = target


class ResultTimeout(SupervisionError, TimeoutError):
    """The task has not ended within the timeout of result(); it goes on."""

    def __init__(self, target: str, timeout: float, doing: str) -> None:
        super().__init__(f"{target} has not ended within {timeout:g} s; it {doing}")
        self.target = target
        self.timeout = timeout


class InvalidKey(SupervisionError, TypeError):
    """A partition's key is of a type whose hash is not the same in each process."""

    def __init__(self, path: str, key: object, part: object) -> None:
        inside = "" if part is key else f", because of {part!r} ({type(part).__qualname__}) in it"
        super().__init__(
            f"{path}: {key!r} ({type(key).__qualname__}) is no key for a partition{inside}; "
            "give an int, a str, bytes or a tuple of these"
        )
        self.key = key


class WrongThread(SupervisionError, RuntimeError):
    """A system and all that is in it are used from its own thread only; nothing was sent or changed."""

    def __init__(self, target: str, what: str) -> None:
        super().__init__(
            f"{target}: {what} comes from another thread than the system's; from a worker thread of its run of trio "
            "use trio.from_thread.run_sync(), or trio.from_thread.run() for what is async"
        )
        self.target = target


class InvalidSpec(SupervisionError, ValueError):
    """A spec or an argument makes no sense; nothing was started or changed."""
