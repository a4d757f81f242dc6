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

__all__ = ["Release", "released_when_gone", "stopped_when_gone"]


def released_when_gone(
    handle: object,
    tasks: Tasks,
    what: str,
    release: Callable[[], Awaitable[object]],
    *,
    over: Callable[[], bool] = lambda: False,
    warning: str | None = None,
) -> Release:
    """Run ``release`` in a task of the runtime's, named ``what``, when ``handle`` was let go; detach what this
    returns to close it.

    A handle is let go in any thread and within any step, so nothing but a hand-over to the loop is done there, and
    ``over`` asked, a look at attributes: then there is nothing to be released. ``warning`` is given as a
    ResourceWarning. Neither ``release`` nor anything that lives as long as the session may refer to ``handle``.
    """
    return Release(handle, tasks, what, release, over=over, warning=warning)


def stopped_when_gone(
    handle: object, tasks: Tasks, supervisor: SupervisorRef, name: str, *, keeps: object = None
) -> Release:
    """Stop the child ``name`` when ``handle`` was let go, and let go of what it ``keeps`` after that."""
    return released_when_gone(handle, tasks, f"close {name}", partial(_stop, supervisor, name, keeps))


async def _stop(supervisor: SupervisorRef, name: str, _kept: object) -> None:
    await stop_child(supervisor, name)


@final
class Release:
    """What is to be done once a handle was let go, in whatever thread and step that is.

    The runtime's ``tasks`` keep it, and the interpreter's own list of finalizers only a weak reference: a strong one
    there would keep an ended runtime for ever with all that was in it, since what is to be done leads to the session
    and a program's own objects may lead from there to the handle.
    """

    def __init__(
        self,
        handle: object,
        tasks: Tasks,
        what: str,
        release: Callable[[], Awaitable[object]],
        *,
        over: Callable[[], bool],
        warning: str | None,
    ) -> None:
        self._tasks = tasks
        self._what = what
        self._release = release
        self._over = over
        self._warning = warning
        self._token = trio.lowlevel.current_trio_token()
        self._process = os.getpid()
        self._finalizer = weakref.finalize(handle, _let_go, weakref.ref(self))
        self._finalizer.atexit = False
        tasks.keep(self)

    def detach(self) -> None:
        """The handle is closed: nothing is left to be done."""
        self._finalizer.detach()
        self._tasks.drop(self)

    def hand_over(self) -> None:
        """Let the loop do it. A forked process has copies of handles, which are its parent's to close."""
        if self._over() or os.getpid() != self._process:
            return
        try:
            self._token.run_sync_soon(self._start)
        except trio.RunFinishedError:
            return
        if self._warning is not None:
            warnings.warn(self._warning, ResourceWarning, stacklevel=3)

    def _start(self) -> None:
        self._tasks.drop(self)
        with suppress(ClosedError):  # the runtime is ending, and everything with it
            self._tasks.start(self._what, self._release)


def _let_go(known: weakref.ref[Release]) -> None:
    release = known()
    if release is not None:
        release.hand_over()
