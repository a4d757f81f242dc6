"""A supervised task: a one-shot actor in the tree, and its result in a cell outside of it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, final

import trio
from outcome import Value

from supervision.actor import Actor, handles
from supervision.actor_place import ActorPlace
from supervision.crash import contains_fatal, report_crash, strip_tracebacks
from supervision.errors import (
    ActorStopped,
    CrashReport,
    InvalidSpec,
    ResultTimeout,
    StopReason,
    TaskCancelled,
)
from supervision.events import TaskFailed
from supervision.handshake import PlaceEdge
from supervision.message import Cast
from supervision.room import Room
from supervision.spec import ChildSpec

if TYPE_CHECKING:
    from supervision.supervisor import SupervisorPlace

__all__ = ["SupervisedTask"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@final
class SupervisedTask(Generic[T_co]):
    """What TaskSupervisor.start() gives. If the task raises and this handle is let go without anyone having asked
    for the result, the error is reported as a TaskFailed event.
    """

    __slots__ = ("_cell",)

    def __init__(self, cell: TaskCell[T_co]) -> None:
        self._cell = cell

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self._cell.name

    @property
    def path(self) -> str:
        """Names from the system down, joined by '/'."""
        return self._cell.path

    @property
    def done(self) -> bool:
        """Whether it has ended, to its last step; result() does not wait then."""
        return self._cell.done

    def cancel(self, reason: str = "cancelled by cancel()") -> None:
        """Cancel the task; result() raises TaskCancelled, unless it ends otherwise all the same. Idempotent."""
        self._cell.cancel(reason)

    async def result(self, timeout: float = math.inf) -> T_co:
        """Wait until the task has ended, at most `timeout` seconds, and give what it returned. May be called again.

        Raises what the task raised, as it was raised; TaskCancelled; ActorStopped if its supervisor, or stop_child(),
        ended it; ResultTimeout (the task goes on); CallCycle (a task can't wait for its own end).
        """
        cell = self._cell
        if not timeout >= 0:
            raise InvalidSpec(f"result() of {cell.path}: timeout must be at least 0 seconds, or inf, got {timeout}")
        if cell.done:
            await trio.lowlevel.checkpoint()
        else:
            await cell.wait(timeout)
        return cell.unwrap()

    def __del__(self) -> None:
        self._cell.let_go()

    def __repr__(self) -> str:
        return f"<SupervisedTask {self.path} {'done' if self.done else 'running'}>"


@final
class TaskKeeper:
    """What a task supervisor's place holds: the room, and what its tasks have in common."""

    __slots__ = ("grace", "number", "room", "supervisor", "token")

    def __init__(self, supervisor: SupervisorPlace, limit: int | None, grace: float) -> None:
        self.supervisor = supervisor
        self.room = Room(supervisor, math.inf if limit is None else limit)
        self.grace = grace
        self.number = 0
        """For names."""
        self.token = trio.lowlevel.current_trio_token()

    def begin(self, function: Callable[..., Awaitable[T]], args: tuple[Any, ...], name: str) -> SupervisedTask[T]:
        """The room is taken, and the place gives it back when it closes."""
        supervisor = self.supervisor
        cell: TaskCell[T] = TaskCell(self, f"{supervisor.path}/{name}", name)
        place = supervisor.add(
            ChildSpec(
                name,
                lambda: OneShot(cell, function, args),
                restart="temporary",
                shutdown=self.grace,
                on_close=cell.close,
            )
        )
        assert isinstance(place, ActorPlace)
        cell.place = place
        # The urgent lane: what is left in it when the task is stopped before it began is no message undelivered.
        place.inbox.offer_urgent(RunTask())
        place.begin()
        return SupervisedTask(cell)


@final
class TaskCell(Generic[T]):
    """The result, which outlives the actor, and who waits for it."""

    __slots__ = (
        "asked",
        "cancelled",
        "crash",
        "done",
        "ended",
        "error",
        "keeper",
        "kept",
        "name",
        "path",
        "place",
        "reason",
        "scope",
        "traceback",
        "value",
    )

    def __init__(self, keeper: TaskKeeper, path: str, name: str) -> None:
        self.keeper = keeper
        self.path = path
        self.name = name
        self.place: ActorPlace | None = None
        self.scope = trio.CancelScope()
        self.cancelled = False
        self.value: Value[T] | None = None
        self.error: BaseException | None = None
        self.traceback: TracebackType | None = None
        self.crash: CrashReport | None = None
        self.reason: StopReason | None = None
        """Why the actor ended."""
        self.done = False
        self.ended: trio.Event | None = None
        """Made when someone waits."""
        self.asked = False
        """Its error has been, or is being, raised to someone."""
        self.kept = True
        """The handle is still there."""

    def cancel(self, reason: str) -> None:
        self.keeper.supervisor.system.check_thread(self.path, "cancel()")
        if not self.done:
            self.cancelled = True
            self.scope.cancel(reason=reason)

    # ---- told by the actor and its place

    def fail(self, error: BaseException) -> None:
        self.crash = report_crash(error, self.path, 1, self.keeper.supervisor.system.now(), None, strip=False)
        traceback = error.__traceback__
        # The first frame is the actor's own, and would keep it.
        self.traceback = traceback if traceback is None else traceback.tb_next or traceback
        self.error = error.with_traceback(self.traceback)

    def close(self, reason: StopReason) -> None:
        """The place has closed: nothing of the task is left."""
        self.reason = reason
        self.place = None
        self.done = True
        if self.ended is not None:
            # Who waits is woken now, and can't be cancelled out of it any more.
            self.asked = self.ended.statistics().tasks_waiting > 0
            self.ended.set()
        if self.crash is not None and not self.asked:
            self.keeper.supervisor.system.unasked[self] = None
            if not self.kept:
                self.report_failure()

    # ---- asked by users

    async def wait(self, timeout: float) -> None:
        """Raises ResultTimeout, CallCycle."""
        place = self.place
        assert place is not None
        caller = place.system.mains.get(trio.lowlevel.current_task())
        if caller is not None:
            place.check_cycle(caller, self)
            caller.waiting = PlaceEdge(place)
        if self.ended is None:
            self.ended = trio.Event()
        try:
            with trio.move_on_after(timeout):
                await self.ended.wait()
        finally:
            if caller is not None:
                caller.waiting = None
        if not self.done:
            raise ResultTimeout(self.path, timeout, place.doing())

    def unwrap(self) -> T:
        if self.value is not None:
            return self.value.value
        if self.error is not None:
            self.asked = True
            self.keeper.supervisor.system.unasked.pop(self, None)
            raise self.error.with_traceback(self.traceback)
        if self.cancelled:
            raise TaskCancelled(self.path)
        raise ActorStopped(self.path, "stopped", str(self.reason))

    # ---- errors that nobody asks for

    def let_go(self) -> None:
        """The handle is gone. Called by the garbage collector, in whatever thread and step."""
        self.kept = False
        if self.crash is not None and not self.asked:
            # Once the loop has ended there is nothing to do: the system has reported all at its end.
            with contextlib.suppress(trio.RunFinishedError):
                self.keeper.token.run_sync_soon(self.report_failure, idempotent=True)

    def report_failure(self) -> None:
        """Once, and not if the error has been raised to someone."""
        system = self.keeper.supervisor.system
        if self in system.unasked:
            del system.unasked[self]
            assert self.crash is not None
            if not self.kept:
                self.traceback = None
                strip_tracebacks(self.crash.error)
            system.events.emit(TaskFailed(self.path, self.crash))


class RunTask(Cast, frozen=True):
    """What the one-shot actor has in hand while its function runs."""


@final
class OneShot(Actor):
    """Runs one function, puts the result into the cell, and ends."""

    def __init__(
        self, cell: TaskCell[Any], function: Callable[..., Awaitable[object]], args: tuple[Any, ...]
    ) -> None:
        self.cell = cell
        self.function = function
        self.args = args

    @handles(RunTask)
    async def run(self, message: RunTask) -> None:
        cell = self.cell
        try:
            with cell.scope:
                cell.value = Value(await self.function(*self.args))
        except BaseException as error:
            # Its end is told by its result, not as a message undelivered.
            self.context._life.hand = None  # noqa: SLF001
            if contains_fatal(error):
                raise
            cancelled, rest = _without_cancelled(error)
            if rest is not None:
                cell.fail(rest)
            if cancelled is not None:
                raise cancelled from None
        self.context.stop()


def _without_cancelled(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """(its Cancelled, the rest): a Cancelled that is the actor's own must not be raised to whoever asks."""
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).split(trio.Cancelled)
    return (error, None) if isinstance(error, trio.Cancelled) else (None, error)
