"""A supervisor of tasks: functions that run once, each on its own, with a result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack, final

import trio

from supervision.errors import InvalidSpec, NameTaken, NotRunning, TooManyChildren
from supervision.ref import SupervisorRef
from supervision.spec import AnySupervisorSpec, DynamicSupervisorSpec, check_grace, check_name
from supervision.supervised_task import SupervisedTask

if TYPE_CHECKING:
    from supervision.supervised_task import TaskKeeper

__all__ = ["TaskSupervisor", "TaskSupervisorSpec"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class TaskSupervisorSpec(AnySupervisorSpec, frozen=True, kw_only=True):
    """A supervisor of tasks: `tasks = await system.start_child(TaskSupervisorSpec("tasks", max_tasks=8))`.

    max_tasks: how many may run at a time; start() waits for room. None: as many as are started.
    grace: seconds that tasks have to end by themselves when they are stopped, all at the same time; then they are
    cancelled.
    restart, backoff: what its parent does when a batch or restart_child() takes it down; its tasks end then.
    shutdown: a bound in seconds on stopping it. significant: as a child's.
    """

    max_tasks: int | None = None
    grace: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_tasks is not None and (type(self.max_tasks) is not int or self.max_tasks < 1):
            raise InvalidSpec(
                f"TaskSupervisorSpec {self.name!r}: max_tasks must be at least 1, or None, got {self.max_tasks!r}"
            )
        check_grace("TaskSupervisorSpec", self.name, self.grace, "grace")

    def plain(self) -> DynamicSupervisorSpec:
        """The supervisor that it is; its children are temporary, so that its intensity never counts."""
        return DynamicSupervisorSpec(
            self.name,
            restart=self.restart,
            significant=self.significant,
            shutdown=self.shutdown,
            backoff=self.backoff,
        )


@final
class TaskSupervisor(SupervisorRef):
    """Names the place of a task supervisor, to start tasks. They are its children: tree() shows them, stop_child()
    ends one within its grace, and none outlives it.

    A task's error is its own: it goes to whoever asks for the result, and touches neither the other tasks nor the
    supervisor. KeyboardInterrupt and SystemExit are no such errors: they end the system.
    """

    __slots__ = ()

    @property
    def max_tasks(self) -> float:
        """How many may run at a time; inf: as many as are started."""
        return self._keeper.room.limit

    @property
    def waiting(self) -> int:
        """How many start() wait for room."""
        return self._keeper.room.waiting

    @property
    def _keeper(self) -> TaskKeeper:
        keeper = self.place.keeper
        assert keeper is not None
        return keeper

    async def start(
        self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts, name: str | None = None
    ) -> SupervisedTask[T]:
        """Run `function(*args)` in a task of its own; first wait for room, first come, first served.

        Cancelled while it waits, it has started nothing. Raises NotRunning (also when the supervisor stops while
        this waits), NameTaken, InvalidSpec, and CallCycle if no room can come: all tasks wait, themselves or over
        calls, for the caller or for room here. Only waits of an actor's, or a task's, main task are known; a child
        task of yours that waits inside is not.
        """
        keeper = self._keeper
        self._check(function, name)
        await trio.lowlevel.checkpoint_if_cancelled()
        await keeper.room.take()
        try:
            self._check(function, name)  # it may have waited
            task = keeper.begin(function, args, self._name(function, name))
        except BaseException:
            keeper.room.give_back()
            raise
        await trio.lowlevel.cancel_shielded_checkpoint()
        return task

    def start_nowait(
        self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts, name: str | None = None
    ) -> SupervisedTask[T]:
        """As start(), but where it would wait this raises TooManyChildren."""
        keeper = self._keeper
        self._check(function, name)
        room = keeper.room
        if not room.take_nowait():
            raise TooManyChildren(f"{self.path}: max_tasks is {room.limit:g}; {room.waiting} wait for room")
        return keeper.begin(function, args, self._name(function, name))

    def _check(self, function: object, name: str | None) -> None:
        place = self.place
        place.system.check_thread(place.path, "the start of a task")
        if not callable(function):
            raise InvalidSpec(f"{place.path}: a task is started with an async function, got {function!r}")
        if name is not None:
            check_name(f"{place.path}: a task", name)
        if place.state != "running":
            raise NotRunning(place.path, place.state, "it can't start a task")
        if name in place.children:
            raise NameTaken(f"{place.path} has a task {name!r} already; wait for its end, or choose another name")

    def _name(self, function: Callable[..., Any], name: str | None) -> str:
        if name is not None:
            return name
        keeper = self._keeper
        label = getattr(function, "__name__", "task").replace("/", "-")
        while True:
            keeper.number += 1
            name = f"{label}-{keeper.number}"
            if name not in self.place.children:
                return name
