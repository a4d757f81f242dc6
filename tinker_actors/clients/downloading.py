"""Downloads of checkpoints as clients offer them: listed among what is pending, with how far they are."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tinker_actors.config import Config
from tinker_actors.errors import InvalidInput
from tinker_actors.flow.pending import PendingTable
from tinker_actors.ledger import Future, Tasks
from tinker_actors.ports import Offload
from tinker_actors.types import TinkerPath
from tinker_actors.wire.api import Api

if TYPE_CHECKING:
    from tinker_actors.archives import ArchiveBounds
    from tinker_actors.downloads import DownloadedCheckpoint, DownloadProgress, DownloadWay

__all__ = ["CheckpointDownloads", "Downloads"]


class Downloads(msgspec.Struct, frozen=True, kw_only=True):
    """What a client's downloads need; ``name`` is the client's among what is pending."""

    name: str
    api: Api
    config: Config
    pending: PendingTable
    offload: Offload
    rng: random.Random
    tasks: Tasks
    export: Callable[[TinkerPath], Awaitable[str]]


class CheckpointDownloads(ABC):
    """Of the clients that download checkpoints."""

    @abstractmethod
    def _downloads(self) -> Downloads:
        """Raises WrongPlace outside of the client's own run of trio."""

    async def download_checkpoint(
        self,
        path: str,
        output_dir: str | Path = ".",
        *,
        force: bool = False,
        progress: Callable[[DownloadProgress], object] | None = None,
        bounds: ArchiveBounds | None = None,
        sha256: str | None = None,
        way: DownloadWay | None = None,
    ) -> DownloadedCheckpoint:
        """The checkpoint ``path`` as a new folder in ``output_dir``, named like the path with "/" as "_".

        Weights come as an archive, external weights file by file (WIRE 10). Where the server offers no archive of a
        training checkpoint, or with ``way`` "files", a model that is there for nothing else makes external weights of
        it, which are deleted afterwards. No credential goes to where files are kept. The folder
        appears once everything has arrived and agrees with the digests that came with it; one that is there already
        is replaced only with ``force``, and only then. What breaks off is continued where it was, also by the next
        call: until then it is in a folder .NAME.partial beside it. ``bounds`` say how much it may be; ``sha256`` is
        the archive's, if you know it. ``progress`` is called as bytes reach the disk, in this run of trio; what it
        raises ends the download.

        Raises InvalidInput for a bad value, a folder that is there or can't be written, and a disk without room;
        the server's refusal as it came; DownloadError where a file can't be had whole; ArchiveError for an archive
        that is damaged, beyond its bounds, or does what it may not.
        """
        from tinker_actors.downloads import download_checkpoint

        needs = self._downloads()
        if progress is not None and not callable(progress):
            raise InvalidInput("progress", f"is of type {type(progress).__name__}", "Give a function, such as print")
        with needs.pending.track(needs.name, "download_checkpoint", "sent") as entry:

            def tell(now: DownloadProgress) -> None:
                of = "" if now.total is None else f" of {now.total:,}"
                entry.explain(f"{now.received:,} bytes{of} of {now.file} are there")
                if progress is not None:
                    progress(now)

            return await download_checkpoint(
                needs.api,
                path,
                output_dir,
                force=force,
                progress=tell,
                bounds=bounds,
                sha256=sha256,
                way=way,
                export=needs.export,
                plain_http=needs.config.allow_plain_http,
                offload=needs.offload,
                rng=needs.rng,
            )

    def download_checkpoint_async(
        self,
        path: str,
        output_dir: str | Path = ".",
        *,
        force: bool = False,
        progress: Callable[[DownloadProgress], object] | None = None,
        bounds: ArchiveBounds | None = None,
        sha256: str | None = None,
        way: DownloadWay | None = None,
    ) -> Future[DownloadedCheckpoint]:
        """``download_checkpoint``, started at once."""
        from tinker_actors.downloads import check_way

        needs = self._downloads()
        check_way(way, TinkerPath.parse(path), exports=True)
        return needs.tasks.start(
            "download_checkpoint",
            lambda: self.download_checkpoint(
                path, output_dir, force=force, progress=progress, bounds=bounds, sha256=sha256, way=way
            ),
        )
