"""What ends by itself, in time: sessions that are silent, checkpoints whose time is over, results kept for long."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, final

import trio

from supervision import Actor
from tinker_actors.local.catalog import Catalog
from tinker_actors.local.clock import Now
from tinker_actors.local.futures import FutureTable
from tinker_actors.local.session import Session, SessionTable
from tinker_actors.ports import Offload

__all__ = ["CheckpointJanitor", "Janitor"]

_log = logging.getLogger("tinker_actors.local")
_LONGEST: Final = 600.0  # the time of day may be set anew meanwhile
_AGAIN: Final = 60.0  # after the disk has failed


@final
class Janitor(Actor):
    """Ends sessions that have been silent for too long, and forgets results that were kept for long enough."""

    def __init__(
        self, sessions: SessionTable, futures: FutureTable, *, end: Callable[[Session], Awaitable[None]]
    ) -> None:
        self._sessions = sessions
        self._futures = futures
        self._end = end

    async def init(self) -> None:
        """Start watching."""
        self.context.start_task(self._watch_sessions, name="sessions")
        self.context.start_task(self._futures.forget_in_time, name="results")

    async def _watch_sessions(self) -> None:
        while True:
            await self._end(await self._sessions.next_silent())


@final
class CheckpointJanitor(Actor):
    """Deletes checkpoints whose time is over; they are gone from listings and loads by themselves."""

    def __init__(self, catalog: Catalog, offload: Offload, now: Now) -> None:
        self._catalog = catalog
        self._offload = offload
        self._now = now
        self._changed = trio.Event()

    async def init(self) -> None:
        """Start watching."""
        token = trio.lowlevel.current_trio_token()
        # saves and changes come from threads
        self._catalog.on_expiring = lambda: token.run_sync_soon(self._look_again, idempotent=True)
        self.context.start_task(self._run, name="run")

    def _look_again(self) -> None:
        self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed = trio.Event()
            due = self._catalog.next_expiry()
            if due is None:
                await self._changed.wait()
                continue
            seconds = (due - self._now()).total_seconds()
            if seconds > 0.0:
                with trio.move_on_after(min(seconds, _LONGEST)):
                    await self._changed.wait()
                continue
            try:
                await self._offload.run(self._catalog.remove_expired)
            except OSError as error:
                _log.error("checkpoints whose time is over can't be deleted: %s", error)
                await trio.sleep(_AGAIN)
