"""Downloads of checkpoints as clients offer them: listed among what is pending, with how far they are."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tinker_actors.config import Config
from tinker_actors.errors import InvalidInput
from tinker_actors.flow.pending import PendingTable
from tinker_actors.ports import Offload
from tinker_actors.wire.api import Api

if TYPE_CHECKING:
    from tinker_actors.archives import ArchiveBounds
    from tinker_actors.downloads import DownloadedCheckpoint, DownloadProgress

__all__ = ["Downloads"]


class Downloads(msgspec.Struct, frozen=True, kw_only=True):
    """What a client's downloads need; ``name`` is the client's among what is pending."""

    name: str
    api: Api
    config: Config
    pending: PendingTable
    offload: Offload
    rng: random.Random

    async def checkpoint(
        self,
        path: str,
        output_dir: str | Path,
        *,
        force: bool,
        progress: Callable[[DownloadProgress], object] | None,
        bounds: ArchiveBounds | None,
        sha256: str | None,
    ) -> DownloadedCheckpoint:
        """One checkpoint, as the clients' ``download_checkpoint`` says."""
        from tinker_actors.downloads import download_checkpoint

        if progress is not None and not callable(progress):
            raise InvalidInput("progress", f"is of type {type(progress).__name__}", "Give a function, such as print")
        with self.pending.track(self.name, "download_checkpoint", "sent") as entry:

            def tell(now: DownloadProgress) -> None:
                of = "" if now.total is None else f" of {now.total:,}"
                entry.explain(f"{now.received:,} bytes{of} of {now.file} are there")
                if progress is not None:
                    progress(now)

            return await download_checkpoint(
                self.api,
                path,
                output_dir,
                force=force,
                progress=tell,
                bounds=bounds,
                sha256=sha256,
                plain_http=self.config.allow_plain_http,
                offload=self.offload,
                rng=self.rng,
            )
