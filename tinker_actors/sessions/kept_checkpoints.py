"""The automatic checkpoints of one model that there are: which of them go, and when the others' time is put off."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from typing import final

import msgspec
import trio
from trio_util import AsyncValue

from tinker_actors.config import CheckpointPolicy
from tinker_actors.errors import InvalidInput, TinkerError
from tinker_actors.ledger import Ledger
from tinker_actors.types import TinkerPath

__all__ = ["KeptCheckpoint", "KeptCheckpoints", "SavedCheckpoint", "StrayCheckpoint"]

_log = logging.getLogger("tinker_actors.sessions")

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

    def __init__(
        self,
        path: str,
        step: int,
        op_no: int,
        *,
        pinned: bool,
        renew_at: float,
        metric: float | None = None,
        discarded: bool = False,
    ) -> None:
        self.path = path
        self.step = step
        self.op_no = op_no
        self.metric = metric
        self.pinned = pinned
        self.discarded = discarded
        """Whether the run has gone on from an earlier state: this one is no step of its any more."""
        self.tries = 0
        self.renew_at = renew_at


@final
class StrayCheckpoint:
    """One that was given up, and may have arrived all the same. Its keeper alone changes the last three.

    ``certain``: if it is there, it shows what it was to show.
    """

    def __init__(self, place: TinkerPath, step: int, op_no: int, *, certain: bool) -> None:
        self.place = place
        self.path = str(place)
        self.step = step
        self.op_no = op_no
        self.certain = certain
        self.looked_before = 0
        """The op_no of the save before which it was last looked for."""
        self.looks = 0
        self.look_at = -math.inf


@final
class KeptCheckpoints:
    """A plain object on its session's place: it outlives the incarnations of client and keeper.

    Steps are the client's optim_steps, counted from ``begin_at``.
    """

    def __init__(self, ledger: Ledger, policy: CheckpointPolicy, changed: AsyncValue[int]) -> None:
        self.ledger = ledger
        self.policy = policy
        self._changed = changed
        self._follower: Callable[[], object] = int
        self._kept: dict[str, KeptCheckpoint] = {}
        self._held: set[str] = set()
        self._values: dict[int, float] = {}
        self._strays: dict[str, StrayCheckpoint] = {}
        self._claimed: set[str] = set()
        self._newest = 0
        self.news: deque[SavedCheckpoint | tuple[str, TinkerError]] = deque(maxlen=_STEPS_REPORTED)
        """What is yet to be told as an event: a save that is done, or the name of one that failed, and why."""

    def follow(self, follower: Callable[[], object]) -> None:
        """Call ``follower`` with each change."""
        self._follower = follower

    def add(self, path: str, step: int, op_no: int, *, pinned: bool = False) -> None:
        """The save of ``step`` is done."""
        due = math.inf if pinned else self._half_time()  # it was saved without an expiry
        known = self._kept[path] = KeptCheckpoint(
            path, step, op_no, pinned=pinned, renew_at=due, metric=self._values.get(step)
        )
        self._newest = max(self._newest, op_no)
        self.news.append(_described(known))
        self._touch()

    def adopt(self, saved: SavedCheckpoint, *, discarded: bool = False) -> None:
        """``saved``, of an earlier process of the same run, is one of these, too, and its time may be short.

        ``discarded``: the run goes on from a state before it. It stays if it is one of the best, or pinned.
        """
        due = math.inf if self.policy.ttl_seconds is None else trio.current_time()
        self._kept[saved.path] = KeptCheckpoint(
            saved.path,
            saved.step,
            saved.op_no,
            pinned=saved.pinned,
            renew_at=due,
            metric=saved.metric,
            discarded=discarded,
        )
        self._touch()

    def failed(self, name: str, error: TinkerError) -> None:
        """The save under ``name`` came to nothing."""
        self.news.append((name, error))
        self._touch()

    def pin(self, path: str, *, pinned: bool) -> bool:
        """Keep the checkpoint whatever the policy says, or no longer; False for one that is not there."""
        known = self._kept.get(path)
        if known is None:
            return False
        known.pinned = pinned
        self._touch()
        return True

    def hold(self, path: str | None, *, instead_of: str | None = None) -> None:
        """Somebody will come back to ``path``, and no more to the other: it stays as long as that is so."""
        if instead_of is not None:
            self._held.discard(instead_of)
        if path is not None:
            self._held.add(path)
        self._touch()

    def report(self, step: int, value: float, *, only_new: bool = False) -> None:
        """The metric after ``step``; ``only_new`` when one that is known already counts more."""
        if only_new and step in self._values:
            return
        self._values[step] = value
        while len(self._values) > _STEPS_REPORTED:
            del self._values[next(iter(self._values))]
        for known in self._kept.values():
            if known.step == step and not known.discarded:
                known.metric = value
        self._touch()

    def forget(self, path: str) -> None:
        """It is not there any more."""
        self._kept.pop(path, None)

    def saved(self) -> tuple[SavedCheckpoint, ...]:
        """Those that are there, the oldest first."""
        return tuple(_described(kept) for kept in self._kept.values())

    def all(self) -> tuple[KeptCheckpoint, ...]:
        """As they are kept, the oldest first."""
        return tuple(self._kept.values())

    def surplus(self) -> tuple[KeptCheckpoint, ...]:
        """Those that are to be deleted, the oldest first."""
        policy = self.policy
        if policy.keep_last is None:
            return ()
        kept = list(self._kept.values())
        counted = [one.path for one in kept if not one.discarded]
        stay = {*counted[-policy.keep_last :]} | self._held
        if policy.keep_best:
            judged = [(one.metric, one.path) for one in kept if one.metric is not None]
            judged.sort(key=lambda one: one[0], reverse=policy.best_is == "highest")
            stay.update(path for _, path in judged[: policy.keep_best])
        return tuple(one for one in kept if not one.pinned and one.path not in stay)

    # ---- those that were given up

    def give_up(self, model_id: str, name: str, step: int, op_no: int, *, certain: bool) -> None:
        """The save of ``step`` under ``name`` was given up, and ``model_id`` may have done it all the same."""
        if name not in self._claimed:
            stray = StrayCheckpoint(TinkerPath(model_id, "weights", name), step, op_no, certain=certain)
            self._strays[stray.path] = stray
            self._touch()

    def look_for(self, path: str) -> None:
        """An earlier process of the same run has given up ``path``. At a server with ids of its own, such as lead to
        no path, nobody looks for it.
        """
        try:
            place = TinkerPath.parse(path)
        except InvalidInput as error:
            _log.warning("%s can't be looked for: %s", path, error)
            return
        self._strays[path] = StrayCheckpoint(place, 0, 0, certain=False)
        self._touch()

    def claim(self, name: str) -> None:
        """What is saved as ``name`` is the user's own, and never looked for."""
        self._claimed.add(name)
        for stray in [stray for stray in self._strays.values() if stray.place.name == name]:
            del self._strays[stray.path]

    def strays(self) -> tuple[str, ...]:
        """The paths of those that may be there, although nobody has heard so."""
        return tuple(self._strays)

    def to_sweep(self) -> tuple[StrayCheckpoint, ...]:
        """Those that are to be deleted, if they are there: a later one is."""
        if self.policy.keep_last is None:
            return ()
        return tuple(stray for stray in self._strays.values() if max(stray.op_no, stray.looked_before) < self._newest)

    def to_look_for(self) -> tuple[StrayCheckpoint, ...]:
        """Those that count if they are there, since no later one will be: the client takes no more operations."""
        if self.ledger.stopped is None:
            return ()
        return tuple(stray for stray in self._strays.values() if stray.certain and stray.op_no > self._newest)

    def looked(self, stray: StrayCheckpoint) -> None:
        """It was not there; it may still come."""
        stray.looks += 1
        stray.looked_before = self._newest

    def settle(self, stray: StrayCheckpoint, *, there: bool = False) -> None:
        """It is looked for no more; ``there`` makes it one of those that there are."""
        if self._strays.pop(stray.path, None) is not None and there:
            self.add(stray.path, stray.step, stray.op_no)

    def _half_time(self) -> float:
        ttl = self.policy.ttl_seconds
        return math.inf if ttl is None else trio.current_time() + ttl / 2

    def _touch(self) -> None:
        self._changed.value += 1
        self._follower()


def _described(kept: KeptCheckpoint) -> SavedCheckpoint:
    return SavedCheckpoint(path=kept.path, step=kept.step, op_no=kept.op_no, metric=kept.metric, pinned=kept.pinned)
