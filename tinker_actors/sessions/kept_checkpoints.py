"""The automatic checkpoints of one model that there are: which of them go, and when the others' time is put off."""

from __future__ import annotations

import math
from collections import deque
from typing import final

import msgspec
import trio
from trio_util import AsyncValue

from tinker_actors.config import CheckpointPolicy
from tinker_actors.errors import TinkerError
from tinker_actors.ledger import Ledger

__all__ = ["KeptCheckpoint", "KeptCheckpoints", "SavedCheckpoint"]

_STEPS_REPORTED = 4096  # whose metric is remembered: more than any save takes


class SavedCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that was saved automatically: after ``step`` optim_steps of its client, by operation ``op_no``.

    ``metric`` is the value that it is judged by, once there is one.
    """

    path: str
    step: int
    op_no: int
    metric: float | None = None
    pinned: bool = False


@final
class KeptCheckpoint:
    """One of them. Its keeper alone changes ``tries`` and ``renew_at``."""

    def __init__(self, path: str, step: int, op_no: int, *, pinned: bool, renew_at: float) -> None:
        self.path = path
        self.step = step
        self.op_no = op_no
        self.pinned = pinned
        self.tries = 0
        self.renew_at = renew_at


@final
class KeptCheckpoints:
    """A plain object on its session's place: it outlives the incarnations of client and keeper.

    Steps are the client's optim_steps, counted from ``begin_at``.
    """

    def __init__(self, ledger: Ledger, policy: CheckpointPolicy, changed: AsyncValue[int]) -> None:
        self.ledger = ledger
        self.policy = policy
        self._changed = changed
        self._kept: dict[str, KeptCheckpoint] = {}
        self._held: set[str] = set()
        self._values: dict[int, float] = {}
        self.news: deque[SavedCheckpoint | tuple[str, TinkerError]] = deque(maxlen=_STEPS_REPORTED)
        """What is yet to be told as an event: a save that is done, or the name of one that failed, and why."""

    def add(self, path: str, step: int, op_no: int, *, pinned: bool = False) -> None:
        """The save of ``step`` is done."""
        due = math.inf if pinned else self._half_time()  # it was saved without an expiry
        self._kept[path] = KeptCheckpoint(path, step, op_no, pinned=pinned, renew_at=due)
        self.news.append(self._described(self._kept[path]))
        self._changed.value += 1

    def adopt(self, saved: SavedCheckpoint) -> None:
        """``saved``, of an earlier process of the same run, is one of these, too, and its time may be short."""
        due = math.inf if self.policy.ttl_seconds is None else trio.current_time()
        self._kept[saved.path] = KeptCheckpoint(
            saved.path, saved.step, saved.op_no, pinned=saved.pinned, renew_at=due
        )
        if saved.metric is not None:
            self._values[saved.step] = saved.metric
        self._changed.value += 1

    def failed(self, name: str, error: TinkerError) -> None:
        """The save under ``name`` came to nothing."""
        self.news.append((name, error))
        self._changed.value += 1

    def pin(self, path: str, *, pinned: bool) -> bool:
        """Keep the checkpoint whatever the policy says, or no longer; False for one that is not there."""
        known = self._kept.get(path)
        if known is None:
            return False
        known.pinned = pinned
        self._changed.value += 1
        return True

    def hold(self, path: str | None, *, instead_of: str | None = None) -> None:
        """Somebody will come back to ``path``, and no more to the other: it stays as long as that is so."""
        if instead_of is not None:
            self._held.discard(instead_of)
        if path is not None:
            self._held.add(path)
        self._changed.value += 1

    def report(self, step: int, value: float, *, only_new: bool = False) -> None:
        """The metric after ``step``; ``only_new`` when one that is known already counts more."""
        if only_new and step in self._values:
            return
        self._values[step] = value
        while len(self._values) > _STEPS_REPORTED:
            del self._values[next(iter(self._values))]
        self._changed.value += 1

    def forget(self, path: str) -> None:
        """It is not there any more."""
        self._kept.pop(path, None)

    def saved(self) -> tuple[SavedCheckpoint, ...]:
        """Those that are there, the oldest first."""
        return tuple(self._described(kept) for kept in self._kept.values())

    def all(self) -> tuple[KeptCheckpoint, ...]:
        """As they are kept, the oldest first."""
        return tuple(self._kept.values())

    def surplus(self) -> tuple[KeptCheckpoint, ...]:
        """Those that are to be deleted, the oldest first."""
        policy = self.policy
        if policy.keep_last is None:
            return ()
        kept = list(self._kept.values())
        stay = {one.path for one in kept[-policy.keep_last :]} | self._held
        if policy.keep_best:
            judged = [one for one in kept if one.step in self._values]
            judged.sort(key=lambda one: self._values[one.step], reverse=policy.best_is == "highest")
            stay.update(one.path for one in judged[: policy.keep_best])
        return tuple(one for one in kept if not one.pinned and one.path not in stay)

    def _half_time(self) -> float:
        ttl = self.policy.ttl_seconds
        return math.inf if ttl is None else trio.current_time() + ttl / 2

    def _described(self, kept: KeptCheckpoint) -> SavedCheckpoint:
        return SavedCheckpoint(
            path=kept.path,
            step=kept.step,
            op_no=kept.op_no,
            metric=self._values.get(kept.step),
            pinned=kept.pinned,
        )
