"""SpillStore: where the models of one runtime spill what memory has no room for."""

from __future__ import annotations

import logging
import math
import re
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Final, final

import trio

from supervision import Actor
from tinker_actors.errors import DiskError, DiskLocked
from tinker_actors.ledger.spill import Crowd, Spill
from tinker_actors.metrics import Metrics
from tinker_actors.ports import Disk, Offload

__all__ = ["Spiller", "SpillStore"]

_log = logging.getLogger("tinker_actors.ledger")

_NAME: Final = re.compile(r"(spill-\d+)(\.lock)?")


@final
class SpillStore:
    """A folder ``spill-N`` below ``base``, of this process alone, made when it is first needed.

    Its lock says that its process lives: folders of dead ones are removed. ``private``: ``base``, too, is to be this
    user's alone.
    """

    def __init__(self, disk: Disk, offload: Offload, metrics: Metrics, base: Path, *, private: bool) -> None:
        self.disk = disk
        self.offload = offload
        self.broken = False
        """Whether nothing is written any more, since its task is over."""
        self._metrics = metrics
        self._base = base
        self._private = private
        self._folder: Path | None = None
        self._held = AsyncExitStack()
        self._opening = trio.Lock()
        self._spills: set[Spill] = set()
        self._work = trio.Event()

    def open(self, owner: Crowd, name: str, max_bytes: int) -> Spill:
        """Up to ``max_bytes`` on the disk for the payloads of ``owner``."""
        spill = Spill(self, owner, name, max_bytes)
        self._spills.add(spill)
        return spill

    def forget(self, spill: Spill) -> None:
        """``spill`` has no files any more, and wants none."""
        self._spills.discard(spill)

    def wake(self) -> None:
        """There is something to write or to remove."""
        self._work.set()

    def written(self, size: int) -> None:
        """``size`` bytes went to the disk."""
        self._metrics.add("spilled_bytes", size)

    def give_up(self) -> None:
        """Its task has crashed too often."""
        self.broken = True

    async def run(self) -> None:
        """Write and remove, for ever: each model's in turn, so that none waits for all of another's."""
        while True:
            self._work = trio.Event()
            busy = False
            for spill in tuple(self._spills):
                busy |= await spill.work()
            if not busy:
                due = min((spill.due for spill in self._spills if spill.failure is not None), default=math.inf)
                with trio.move_on_at(due):
                    await self._work.wait()

    async def folder(self) -> Path:
        """Its folder. Raises DiskError where none can be made."""
        async with self._opening:
            if self._folder is None:
                await self.disk.make_folder(self._base, private=self._private)
                await self._clean()
                self._folder = await self._take()
            return self._folder

    async def aclose(self) -> None:
        """The runtime is over: remove the folder."""
        if self._folder is None:
            return
        with trio.CancelScope(shield=True):
            try:
                await self.disk.remove_folder(self._folder)
                await self.disk.remove(_lock_of(self._folder))
            except DiskError as error:
                _log.warning("what was spilled is left over until the next program spills: %s", error)
            await self._held.aclose()

    async def _clean(self) -> None:
        """Remove the folders of processes that have died."""
        found = [_NAME.fullmatch(name) for name in await self.disk.names(self._base)]
        for name in sorted({match[1] for match in found if match is not None}):
            folder = self._base / name
            try:
                async with self.disk.lock(_lock_of(folder)):
                    await self.disk.remove_folder(folder)
                    await self.disk.remove(_lock_of(folder))
            except DiskLocked:
                continue  # its process lives
            except DiskError as error:
                _log.warning("what a process has left that died can't be removed: %s", error)

    async def _take(self) -> Path:
        for number in count():
            folder = self._base / f"spill-{number}"
            async with AsyncExitStack() as held:
                try:
                    await held.enter_async_context(self.disk.lock(_lock_of(folder)))
                except DiskLocked:
                    continue
                await self.disk.remove_folder(folder)
                await self.disk.make_folder(folder, private=True)
                self._held = held.pop_all()
                return folder
        raise AssertionError("there are numbers enough")


@final
class Spiller(Actor):
    """The store's task. What it has not written when it crashes is in memory still."""

    def __init__(self, store: SpillStore) -> None:
        self._store = store

    async def init(self) -> None:
        """Begin."""
        self.context.start_task(self._store.run, name="write")


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
