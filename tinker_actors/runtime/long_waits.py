"""LongWaits: what has waited in one state for long is said in the log, with its reason, before anybody asks."""

from __future__ import annotations

import logging
import re
from typing import TypeAlias, final

import trio

from supervision import Actor
from tinker_actors.flow.pending import FIRST_NOTICE, PendingEntry, PendingTable

__all__ = ["LongWaits"]

_log = logging.getLogger("tinker_actors.waiting")

_LONGEST = 600.0  # seconds: how far apart the lines about one wait may grow
_Kind: TypeAlias = tuple[str, str, str, bool]
_OWNER = re.compile(r".*(?=[#/])")  # of session-0/training-0#7 what stands before the "#"


@final
class LongWaits(Actor):
    """Logs each row of the table that has been in one state for 10 s, then at 20, 40, 80, ... s, in the end every ten
    minutes.

    Waits of the same kind for the same client are one line: the oldest, and how many more; however many come and go,
    there is one such line at a time. A wait in which nothing is wrong is of level INFO, any other a WARNING. While
    nothing waits, it does nothing at all.
    """

    def __init__(self, pending: PendingTable) -> None:
        self._pending = pending
        self._told: dict[_Kind, float] = {}
        """Until when nothing more is said of a kind."""

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
        self._told = {kind: until for kind, until in self._told.items() if until > now}
        alike: dict[_Kind, list[PendingEntry]] = {}
        for entry in self._pending.entries():
            if entry.due <= now or entry.since >= FIRST_NOTICE:  # by a hair one of them may come first
                owner = _OWNER.match(entry.name)
                kind = (owner[0] if owner else entry.name, entry.kind, entry.state, entry.expected)
                alike.setdefault(kind, []).append(entry)
        for kind, entries in alike.items():
            due = [entry for entry in entries if entry.due <= now]
            if due and kind not in self._told:
                oldest = max(entries, key=lambda entry: entry.since)
                more = f", and {len(entries) - 1} more like it" if len(entries) > 1 else ""
                _log.log(logging.INFO if oldest.expected else logging.WARNING, "%s%s", oldest.snapshot(), more)
                self._told[kind] = now + min(oldest.since, _LONGEST)
            for entry in due:
                entry.due = self._told[kind]
