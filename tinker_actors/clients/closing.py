"""What a handle meets when its actor or its supervisor is no more."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from supervision import ActorDown, ChildNotFound, NotRunning, SupervisorRef
from tinker_actors.errors import ClosedError

__all__ = ["closed_as_such", "stop_child"]


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
