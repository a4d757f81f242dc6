"""Saved checkpoints as servers list them, and where to download them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from tinker_actors.types.checked import Checked, Timestamp

__all__ = [
    "Checkpoint",
    "CheckpointArchiveUrlResponse",
    "CheckpointsListResponse",
    "CheckpointType",
    "Cursor",
    "ExternalWeightsUrlsResponse",
]

CheckpointType: TypeAlias = Literal["training", "sampler", "external"]


class Checkpoint(Checked, frozen=True, kw_only=True):
    """A saved checkpoint. ``checkpoint_id`` is <kind>/<name> within its run; ``expires_at`` None means never."""

    checkpoint_id: str
    checkpoint_type: CheckpointType
    time: Timestamp
    tinker_path: str
    size_bytes: int | None = None
    public: bool = False
    user_metadata: Mapping[str, str] | None = None
    expires_at: Timestamp | None = None


class Cursor(Checked, frozen=True, kw_only=True):
    """Which part of a listing this is: ``limit`` entries from number ``offset`` on, of ``total_count``."""

    offset: int
    limit: int
    total_count: int

    @property
    def next_offset(self) -> int | None:
        """Where the next part begins; None after the last one."""
        after = self.offset + self.limit
        return after if self.limit > 0 and after < self.total_count else None


class CheckpointsListResponse(Checked, frozen=True, kw_only=True):
    """Checkpoints, newest first; servers that list all at once give no ``cursor``."""

    checkpoints: tuple[Checkpoint, ...]
    cursor: Cursor | None = None


class CheckpointArchiveUrlResponse(Checked, frozen=True, kw_only=True):
    """Where a checkpoint's archive can be downloaded until ``expires`` (older servers)."""

    url: str
    expires: Timestamp | None = None


class ExternalWeightsUrlsResponse(Checked, frozen=True, kw_only=True):
    """Where the files of external weights can be downloaded until ``expires``: relative paths and signed URLs."""

    urls: Mapping[str, str]
    expires: Timestamp
