"""What all ways to a downloaded checkpoint share: one download, what came of it, and questions to its server."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio

from tinker_actors.archives import ArchiveBounds
from tinker_actors.downloads.digests import FileDigest
from tinker_actors.downloads.fetch import Fetcher
from tinker_actors.downloads.partial import PartialFolder
from tinker_actors.errors import APIConnectionError, APIStatusError
from tinker_actors.ports import Offload
from tinker_actors.types import TinkerPath
from tinker_actors.wire.api import Api

__all__ = ["ask", "Download", "DownloadedCheckpoint"]

T = TypeVar("T")

_TRIES: Final = 6
_BUILDING: Final = 30.0  # seconds between two questions for an archive that is being built (WIRE 10.1)
_NOT_OFFERED: Final = 501


class DownloadedCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint on this machine: its folder, the files in it as relative paths, and the sum of their bytes."""

    checkpoint_path: str
    destination: Path
    files: tuple[str, ...]
    total_bytes: int


class Download(msgspec.Struct, frozen=True):
    """Of ``path`` into ``target``, growing in ``place``."""

    api: Api
    path: TinkerPath
    place: PartialFolder
    target: Path
    fetcher: Fetcher
    offload: Offload
    bounds: ArchiveBounds
    rng: random.Random
    sha256: FileDigest | None
    force: bool

    def new_key(self) -> str:
        """An idempotency key."""
        return f"tinker-actors-{self.rng.getrandbits(128):032x}"


async def ask(question: Callable[[], Awaitable[T]]) -> T:
    """The answer, asked for again while the server is busy, can't be reached, or is still building an archive."""
    for tried in range(_TRIES):
        try:
            return await question()
        except (APIConnectionError, APIStatusError) as error:
            status = error.status if isinstance(error, APIStatusError) else 503
            passes = (status >= 500 and status != _NOT_OFFERED) or status in (408, 429)
            if tried == _TRIES - 1 or not passes:
                raise
            pause = _BUILDING if isinstance(error, APIStatusError) and status == 503 else 2.0**tried
            await trio.sleep(max(pause, getattr(error, "retry_after", None) or 0.0))
    raise AssertionError("unreachable")
