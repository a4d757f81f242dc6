"""LongWaits: what has waited in one state for long is said in the log, with its reason, before anybody asks."""

from __future__ import annotations

import logging
import re
from typing import final

import trio

from supervision import Actor
from tinker_actors.flow.pending import FIRST_NOTICE, PendingEntry, PendingTable

__all__ = ["LongWaits"]

_log = logging.getLogger("tinker_actors.waiting")

_LONGEST = 600.0  # seconds: how far apart the lines about one wait may grow
_OWNER = re.compile(r".*(?=[#/])")  # of session-0/training-0#7 what stands before the "#"


@final
class LongWaits(Actor):
    """Logs each row of the table that has been in one state for 10 s, then at 20, 40, 80, ... s, in the end every ten
    minutes.

    Waits of the same kind for the same client are one line: the oldest, and how many more. A wait in which nothing is
    wrong is of level INFO, any other a WARNING. While nothing waits, it does nothing at all.
    """

    def __init__(self, pending: PendingTable) -> None:
        self._pending = pending

    async def init(self) -> None:
        """Start watching."""
        self.context.start_task(self._watch, name="watch")

    async def _watch(self) -> None:
        while True:
            await self._pending.until_any()
            due = [entry.due for entry in self._pending.entries()]
            # what is opened or changes its state from now on is due in FIRST_NOTICE at the earliest
            await trio.sleep_until(min([trio.current_time() + FIRST_NOTICE, *due]))
            self._tell()

    def _tell(self) -> None:
        now = trio.current_time()
        alike: dict[tuple[str, str, str, bool], list[PendingEntry]] = {}
        for entry in self._pending.entries():
            if entry.due <= now:
                owner = _OWNER.match(entry.name)
                key = (owner[0] if owner else entry.name, entry.kind, entry.state, entry.expected)
                alike.setdefault(key, []).append(entry)
        for (*_, expected), entries in alike.items():
            more = f", and {len(entries) - 1} more like it" if len(entries) > 1 else ""
            _log.log(logging.INFO if expected else logging.WARNING, "%s%s", entries[0].snapshot(), more)
            for entry in entries:
                entry.noticed(_LONGEST)
