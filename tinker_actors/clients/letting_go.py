"""What becomes of what a handle held when it is let go without being closed."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import final

import trio

from supervision import SupervisorRef
from tinker_actors.clients.closing import stop_child
from tinker_actors.errors import ClosedError
from tinker_actors.ledger import Tasks

__all__ = ["released_when_gone", "stopped_when_gone"]


def released_when_gone(
    handle: object,
    tasks: Tasks,
    what: str,
    release: Callable[[], Awaitable[object]],
    *,
    over: Callable[[], bool] = lambda: False,
    warning: str | None = None,
) -> weakref.finalize[..., object]:
    """Run ``release`` in a task of the runtime's, named ``what``, when ``handle`` was let go; detach what this
    returns to close it.

    A handle is let go in any thread and within any step, so nothing but a hand-over to the loop is done there, and
    ``over`` asked, a look at attributes: then there is nothing to be released. ``warning`` is given as a
    ResourceWarning. Neither ``release`` nor anything that lives as long as the session may refer to ``handle``.
    """
    finalizer = weakref.finalize(handle, _Release(tasks, what, release).hand_over, over, warning)
    finalizer.atexit = False
    return finalizer


def stopped_when_gone(
    handle: object, tasks: Tasks, supervisor: SupervisorRef, name: str, *, keeps: object = None
) -> weakref.finalize[..., object]:
    """Stop the child ``name`` when ``handle`` was let go, and let go of what it ``keeps`` after that."""
    return released_when_gone(handle, tasks, f"close {name}", partial(_stop, supervisor, name, keeps))


async def _stop(supervisor: SupervisorRef, name: str, _kept: object) -> None:
    await stop_child(supervisor, name)


@final
class _Release:
    """What is to be done, kept by the garbage collector, which calls it in whatever thread and step."""

    def __init__(self, tasks: Tasks, what: str, release: Callable[[], Awaitable[object]]) -> None:
        self._tasks = tasks
        self._what = what
        self._release = release
        self._token = trio.lowlevel.current_trio_token()
        self._process = os.getpid()

    def hand_over(self, over: Callable[[], bool], warning: str | None) -> None:
        """Let the loop do it. A forked process has copies of handles, which are its parent's to close."""
        if over() or os.getpid() != self._process:
            return
        try:
            self._token.run_sync_soon(self._start)
        except trio.RunFinishedError:
            return
        if warning is not None:
            warnings.warn(warning, ResourceWarning, stacklevel=2)

    def _start(self) -> None:
        with suppress(ClosedError):  # the runtime is ending, and everything with it
            self._tasks.start(self._what, self._release)
