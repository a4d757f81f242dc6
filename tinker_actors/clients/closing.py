"""What a handle meets when its actor or its supervisor is no more, and what becomes of an actor whose handle is."""

from __future__ import annotations

import weakref
from collections.abc import Generator
from contextlib import contextmanager, suppress

import trio

from supervision import ActorDown, ChildNotFound, NotRunning, SupervisorRef
from tinker_actors.errors import ClosedError
from tinker_actors.ledger import Tasks

__all__ = ["closed_as_such", "stop_child", "stopped_when_gone"]


@contextmanager
def closed_as_such(what: str) -> Generator[None]:
    """Raise ClosedError for what can't be had because its place is closed, or closes meanwhile; ``what`` says what
    was asked for.
    """
    try:
        yield
    except NotRunning as error:
        raise ClosedError(f"{what} was not done: {error}") from error
    except ActorDown as error:
        if error.reason.crash is not None:
            raise
        raise ClosedError(f"{what} was not done: its client was closed meanwhile") from error


async def stop_child(supervisor: SupervisorRef, name: str) -> None:
    """Stop the child ``name``, unless it or its supervisor has ended already."""
    try:
        await supervisor.stop_child(name)
    except (ChildNotFound, NotRunning):
        return


def stopped_when_gone(
    handle: object, tasks: Tasks, supervisor: SupervisorRef, name: str
) -> weakref.finalize[..., object]:
    """Stop the child ``name`` when ``handle`` was let go without being closed; detach what this returns to close it.

    Nothing that the child's place holds may refer to ``handle``.
    """
    token = trio.lowlevel.current_trio_token()
    finalizer = weakref.finalize(handle, _let_go, token, tasks, supervisor, name)
    finalizer.atexit = False
    return finalizer


def _let_go(token: trio.lowlevel.TrioToken, tasks: Tasks, supervisor: SupervisorRef, name: str) -> None:
    """Called by the garbage collector, in whatever thread and step."""

    def stop() -> None:
        with suppress(ClosedError):  # the runtime is ending, and the child with it
            tasks.start(f"close {name}", lambda: stop_child(supervisor, name))

    with suppress(trio.RunFinishedError):
        token.run_sync_soon(stop)
