"""External weights made of a training checkpoint for one download, kept while it lasts and deleted after it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias, final

import trio

from tinker_actors.archives.folder import on_disk
from tinker_actors.downloads.job import Download, ask
from tinker_actors.errors import APIStatusError, InvalidInput, TinkerError
from tinker_actors.types import TinkerPath
from tinker_actors.wire.endpoints.checkpoints import delete_checkpoint, set_checkpoint_ttl

__all__ = ["Export", "Exported", "KEPT"]

KEPT: Final = 3600
"""Seconds for which such weights are kept at the server (WIRE 10.2)."""
_DELETED_WITHIN: Final = 10.0  # seconds

Export: TypeAlias = Callable[[TinkerPath], Awaitable[str]]
"""Makes external weights of a training checkpoint, to be kept for KEPT, and returns their path."""

_log = logging.getLogger("tinker_actors.downloads")


@final
class Exported:
    """Those of one download. Their path is noted in its folder, so that the next call goes on with them."""

    def __init__(self, job: Download, export: Export) -> None:
        self._job = job
        self._export = export
        self._note = job.place.exported

    async def path(self) -> TinkerPath:
        """Theirs; made where there are none yet, or no more, and kept for an hour from now."""
        known = await self._job.offload.run(self._read)
        if known is not None and await self._prolong(known):
            return known
        made = TinkerPath.parse(await self._export(self._job.path), kind="external_weights")
        await self._job.offload.run(partial(self._write, made))
        return made

    async def delete(self) -> None:
        """Have the server delete them. One that can't be asked deletes them itself, after their hour."""
        with trio.move_on_after(_DELETED_WITHIN, shield=True):
            known = await self._job.offload.run(self._read)
            if known is None:
                return
            try:
                await delete_checkpoint(self._job.api, known.run, known.checkpoint_id, key=self._job.new_key())
            except TinkerError as error:
                _log.warning("%s of a download could not be deleted: %s", known, error)

    async def _prolong(self, known: TinkerPath) -> bool:
        key = self._job.new_key()
        try:
            await ask(partial(set_checkpoint_ttl, self._job.api, known.run, known.checkpoint_id, KEPT, key=key))
        except APIStatusError as error:
            if error.status in (404, 410):
                return False
            raise
        return True

    def _read(self) -> TinkerPath | None:
        with on_disk(self._job.target):
            try:
                return TinkerPath.parse(self._note.read_text("utf-8"), kind="external_weights")
            except (FileNotFoundError, UnicodeDecodeError, InvalidInput):
                return None

    def _write(self, made: TinkerPath) -> None:
        with on_disk(self._job.target):
            self._note.write_text(str(made), "utf-8")
