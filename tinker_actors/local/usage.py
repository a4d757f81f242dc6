"""What was used, by the hour: tokens trained on and sampled, and checkpoints saved. Of this process, and for free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias, final

import msgspec

from tinker_actors.local.owners import Owner, owns

__all__ = ["HOUR", "Usage", "UsageKind", "UsageLedger", "hour_of"]

HOUR: Final = timedelta(hours=1)
UsageKind: TypeAlias = Literal["training", "sampling_prefill", "sampling_sample", "checkpoint"]


class Usage(msgspec.Struct, frozen=True, order=True):
    """What one session used of one base model within the hour that begins at ``hour``."""

    hour: datetime
    owner: Owner
    session_id: str
    base_model: str
    kind: UsageKind


def hour_of(time: datetime) -> datetime:
    """The beginning of the hour that ``time`` is in."""
    return time.replace(minute=0, second=0, microsecond=0)


@final
class UsageLedger:
    """Counts of tokens (of checkpoints: their number), by Usage."""

    def __init__(self) -> None:
        self._counts: Counter[Usage] = Counter()

    def add(self, usage: Usage, count: int) -> None:
        """``count`` more."""
        if count:
            self._counts[usage] += count

    def between(self, owner: Owner, start: datetime, end: datetime) -> Iterator[tuple[Usage, int]]:
        """The owner's usage of the hours from ``start`` on that begin before ``end``, in their order."""
        for usage, count in sorted(self._counts.items()):
            if owns(owner, usage.owner) and start <= usage.hour < end:
                yield usage, count
