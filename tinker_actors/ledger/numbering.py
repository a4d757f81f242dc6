"""The seq_ids of one model: which is due, and which the server still waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import msgspec

from tinker_actors.ledger.operation import Sending

__all__ = ["Gap", "Numbering"]


class Gap(msgspec.Struct, frozen=True):
    """A seq_id that no operation has: the server refused it, and waits for it, or nothing was sent yet.

    ``doubtful`` when the server may have the operation all the same, and then takes nothing else under that number.
    """

    seq_id: int
    key: str
    doubtful: bool = False


@final
class Numbering:
    """Seq_ids are given at the send turn, dense from the one that the model is created with."""

    def __init__(self, new_key: Callable[[], str]) -> None:
        self._new_key = new_key
        self._gaps: list[Gap] = []
        self._probe: Gap | None = None
        self.due = 1
        """The seq_id to be given next."""

    def begin(self, due: int) -> None:
        """A model has been created, and ``due`` is its next seq_id."""
        self.due = due
        self._probe = None

    def take(self, count: int) -> int:
        """The first of the next ``count`` seq_ids."""
        first = self.due
        self.due += count
        return first

    def gaps(self) -> tuple[Gap, ...]:
        """Seq_ids to be filled before the next operation is sent."""
        return tuple(self._gaps)

    def leave(self, sending: Sending) -> None:
        """The seq_ids of ``sending``, which the server has not taken, are to be filled."""
        assert not any(sending.request_ids), "a promised chunk can't be filled"
        first, doubts = sending.first_seq_id, sending.doubts
        self._gaps.extend(Gap(first + i, self._new_key(), doubts[i]) for i in range(len(sending.keys)))

    def fill(self, gap: Gap) -> None:
        """``gap`` has been filled; its model may be lost meanwhile."""
        if gap in self._gaps:
            self._gaps.remove(gap)

    def clear(self) -> None:
        """The model is gone, and its gaps with it."""
        self._gaps.clear()

    def probe(self) -> Gap:
        """The seq_id for a request that changes nothing, and that shows how the server takes a repeated one."""
        if self._probe is None:
            self._probe = Gap(self.due, self._new_key())
        return self._probe

    def end_probe(self, probe: Gap, due: int) -> None:
        """The server has answered ``probe``; ``due`` is its next seq_id. Its model may be lost meanwhile."""
        if self._probe is probe:
            self._probe = None
            self.due = due
