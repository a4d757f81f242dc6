"""Calls that go on without their caller: each in a supervised task, with a Future for its result."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, final

from supervision import NotRunning, SupervisedTask, TaskSupervisor
from tinker_actors.errors import ClosedError, OperationCancelled, TinkerError
from tinker_actors.flow.home import Home
from tinker_actors.flow.pending import PendingEntry, PendingTable
from tinker_actors.ledger.future import Future

__all__ = ["Tasks"]

T = TypeVar("T")

_log = logging.getLogger("tinker_actors.runtime")


@final
class Tasks:
    """A plain object of the runtime's; its tasks are children of ``supervisor`` and none outlives the runtime."""

    def __init__(self, supervisor: TaskSupervisor, pending: PendingTable) -> None:
        self._supervisor = supervisor
        self._pending = pending
        self._home = Home()
        self._open: dict[Future[Any], PendingEntry] = {}
        self._kept: set[object] = set()

    def start(self, what: str, call: Callable[[], Awaitable[T]]) -> Future[T]:
        """Run ``call`` in a task of its own; ``what`` names it.

        Its error goes to the Future, and as a line to the log, since a program may never look at it. Raises
        ClosedError when the runtime has ended or is ending, WrongPlace outside of its trio program.
        """
        self._home.require(what)
        entry = self._pending.open(what, "task", "running")
        entry.enter("running", "in a task of the runtime's", expected=True)
        task: SupervisedTask[None] | None = None
        cancelled = False

        def cancel() -> bool:
            nonlocal cancelled
            cancelled = True
            if task is not None:
                task.cancel()
            return True

        future: Future[T] = Future(lambda: str(entry.snapshot()), cancel, self._home)

        async def run() -> None:
            try:
                result = await call()
            except Exception as error:  # noqa: BLE001  # it is the Future's
                self._end(future)
                future.reject(error)
                if not isinstance(error, TinkerError):
                    _log.error("%s failed", what, exc_info=error)
                else:
                    _log.warning("%s failed: %s", what, error)
            except BaseException:
                self._end(future)
                future.reject(
                    OperationCancelled(f"{what} was cancelled", operation=what) if cancelled else _closed(what)
                )
                raise
            else:
                self._end(future)
                future.resolve(result)

        self._open[future] = entry
        try:
            task = self._supervisor.start_nowait(run, name=None)
        except NotRunning as error:
            self._end(future)
            raise ClosedError(f"{what} was not started: {error}") from error
        return future

    def keep(self, what: object) -> None:
        """Keep ``what`` alive until it is dropped or the runtime has ended."""
        self._kept.add(what)

    def drop(self, what: object) -> None:
        """Keep it no longer. Safe in any thread, and for what was never kept."""
        self._kept.discard(what)

    def close(self) -> None:
        """The runtime has ended: who still waits for a task that was never begun waits for nobody."""
        for future, entry in tuple(self._open.items()):
            self._end(future)
            future.reject(_closed(entry.name))
        self._kept.clear()

    def _end(self, future: Future[Any]) -> None:
        self._pending.close(self._open.pop(future))


def _closed(what: str) -> ClosedError:
    return ClosedError(f"{what} was given up: the runtime was closed. Await its Future before")
