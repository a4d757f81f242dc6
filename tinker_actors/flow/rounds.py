"""Rounds: what many wait for and one tries at, round after round. An outage ends a round, and who waits is told."""

from __future__ import annotations

from typing import final

from trio_util import AsyncValue

from tinker_actors.flow.patience import OutOfPatience

__all__ = ["Rounds"]


@final
class Rounds:
    """Who tries calls ``begin`` and, when an outage has lasted too long, ``fail``; then it tries on.

    Who waits takes ``due`` when it comes, and hears of the outage by ``outage``: with everybody else at the end of
    the first round, and later at the end of one that has begun since it came. So whoever comes when the network is
    well again is not told of a try that was made before.
    """

    def __init__(self) -> None:
        self._begun = 0
        self._gone: OutOfPatience | None = None
        self.failed: AsyncValue[int] = AsyncValue(0)
        """The latest round that an outage has ended; wait for its change."""

    def begin(self) -> None:
        """Another round."""
        self._begun += 1

    def fail(self, gone: OutOfPatience) -> None:
        """This round is over, and nothing was had."""
        self._gone = gone
        self.failed.value = self._begun

    @property
    def due(self) -> int:
        """The first round whose end counts for who comes now."""
        return 1 if self.failed.value == 0 else self._begun + 1

    def outage(self, due: int) -> OutOfPatience | None:
        """Why who came when ``due`` was due is to wait no longer; None while it is."""
        return self._gone if self.failed.value >= due else None
