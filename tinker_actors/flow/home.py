"""Where handles may be used: in the trio program that opened their runtime."""

from __future__ import annotations

import os
from typing import Final, final

import trio

from tinker_actors.errors import WrongPlace

__all__ = ["FORKED", "Home", "require_trio"]

FORKED: Final = (
    'what it needs did not come along. Start processes with multiprocessing\'s "spawn", and open a runtime in each'
)
"""Why nothing works in a forked process, and what to do instead."""


def require_trio(what: str, instead: str) -> None:
    """Raise WrongPlace where no trio task runs, such as in asyncio, which stumbles over what it knows nothing of."""
    if not trio.lowlevel.in_trio_task():
        raise WrongPlace(
            f"{what} was used outside of trio, and nothing was done. Use {instead}, or run it by trio.run"
        )


@final
class Home:
    """The run of trio in which it was made. trio's events and queues are torn when touched from any other place."""

    __slots__ = ("_pid", "_token")

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._token = trio.lowlevel.current_trio_token()

    def require(self, what: object) -> None:
        """Raise WrongPlace, having touched nothing, in another thread, another run of trio or a forked process."""
        if os.getpid() != self._pid:
            raise WrongPlace(
                f"{what} was used in a process that was forked from its runtime's, and nothing was done: {FORKED}"
            )
        try:
            token = trio.lowlevel.current_trio_token()
        except RuntimeError:
            token = None
        if token is not self._token:
            where = "outside of trio" if token is None else "in another run of trio"
            raise WrongPlace(
                f"{what} was used {where}, and nothing was done. It belongs to the trio program that opened its "
                "runtime: use it there, from other threads by trio.from_thread.run. Programs without trio take "
                "blocking_runtime()"
            )
