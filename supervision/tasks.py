"""Tasks of an actor's own: they end with its incarnation, and their crash is the actor's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVarTuple, Unpack, final

import trio
from trio.lowlevel import current_task, disable_ki_protection, enable_ki_protection, in_trio_task

if TYPE_CHECKING:
    from supervision.incarnation import Incarnation

__all__ = ["ActorTask"]

Ts = TypeVarTuple("Ts")


def is_closing(error: BaseException, task: trio.lowlevel.Task | None) -> bool:
    """Whether a GeneratorExit says that the coroutine of `task` is being closed, when its run is over: nothing may be
    awaited then. One that comes in a step of the task itself is the user's own, and as fatal as SystemExit.
    """
    return isinstance(error, GeneratorExit) and not (in_trio_task() and current_task() is task)


@disable_ki_protection
async def unprotected(function: Callable[[Unpack[Ts]], Awaitable[object]], *args: *Ts) -> None:
    """Run a function of the user's out of steps of the library's: ^C may strike in it."""
    await function(*args)


@final
class ActorTask:
    """What start_task() gives. It ends by itself, by cancel(), or with the incarnation."""

    __slots__ = ("_done", "_life", "_scope", "name")

    def __init__(self, life: Incarnation, name: str) -> None:
        self._life = life
        self._scope = trio.CancelScope(shield=True)
        self._done = False
        self.name = name

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._done

    def cancel(self, reason: str = "cancelled by its actor") -> None:
        """Cancel the task; nobody hears of it but the task. Idempotent. Raises WrongThread."""
        self._life.place.system.check_thread(self._life.place.path, "the cancellation of its task")
        self._scope.cancel(reason=reason)

    @enable_ki_protection
    async def run(self, function: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
        """The trio task."""
        task = current_task()
        caught: BaseException | None = None
        try:
            with self._scope:
                await unprotected(function, *args)
        except BaseException as error:
            if is_closing(error, task):
                raise
            caught = error
        self._done = True
        self._life.task_ended(self, caught)

    def __repr__(self) -> str:
        return f"<ActorTask {self.name} {'done' if self._done else 'running'}>"
