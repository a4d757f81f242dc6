"""The Recorder: writes rows and resume records, each record only when all that it promises is certain."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, final

import msgspec
import trio
from trio_util import AsyncValue

from supervision import Actor
from tinker_actors.errors import DiskError
from tinker_actors.flow.pending import PendingEntry
from tinker_actors.ledger import Future
from tinker_actors.metrics import ModelUsage
from tinker_actors.ports.time_of_day import time_of_day
from tinker_actors.recovery.choice import Scores
from tinker_actors.recovery.jobs.folder import JobFolder
from tinker_actors.recovery.jobs.metrics_file import MetricsFile
from tinker_actors.recovery.jobs.record import JobStatus, ResumePoint, ResumeRecord, how_far, versions
from tinker_actors.sessions import KeptCheckpoints
from tinker_actors.types import SaveWeightsResponse

__all__ = ["Candidate", "Captured", "JobKeeper", "Recorder"]

_log = logging.getLogger("tinker_actors.jobs")

_EARLIER = 3  # points kept besides the newest, each as large as what the program tracks
_ROW_WITHIN = 16  # steps: one that has no row by then will have none
_FIRST_DELAY, _LONGEST_DELAY = 1.0, 60.0  # seconds between two tries at a disk that refuses


class Captured(msgspec.Struct, frozen=True, kw_only=True):
    """What the program tracks, and what draws seeds for samples: both as JSON, so that nothing changes them later."""

    states: str
    sampling: str


@final
class Candidate:
    """What was captured when a save was accepted: a point to go on from, once the save is done."""

    __slots__ = ("captured", "op_no", "path", "step", "whole")

    def __init__(self, *, step: int, op_no: int, captured: Captured, whole: bool) -> None:
        self.step = step
        self.op_no = op_no
        self.captured = captured
        self.whole = whole
        """Whether what was captured is what counts: not before the step's end, where that is to count."""
        self.path: str | None = None


@final
class Recorder:
    """A plain object of the job's: its keeper may crash, and nothing of it is lost.

    A point is recorded when its save is done and the row of its step is certain, or that of a later one; where none
    comes within 16 steps it has none. Until then the record before counts, and its checkpoint stays.
    """

    def __init__(
        self,
        folder: JobFolder,
        record: ResumeRecord,
        metrics: MetricsFile,
        kept: KeptCheckpoints,
        *,
        scores: Scores,
        usage: Callable[[], dict[str, ModelUsage]],
        entry: PendingEntry,
    ) -> None:
        self.record = record
        self.metrics = metrics
        self.changed: AsyncValue[int] = AsyncValue(0)
        self.step = record.step
        """How many steps were done, safe or not."""
        self._folder = folder
        self._kept = kept
        self._scores = scores
        self._usage = usage
        self._used: dict[str, ModelUsage] = {}
        self._entry = entry
        self._candidates: list[Candidate] = []
        self._ending = False
        kept.hold(None if record.point is None else record.point.checkpoint)
        kept.follow(self._touch)

    def propose(self, candidate: Candidate, saved: Future[SaveWeightsResponse]) -> None:
        """``saved`` was accepted just now, at ``candidate``."""
        self._candidates.append(candidate)
        saved.when_done(lambda: self._saved(candidate, saved))

    def drop(self, step: int) -> None:
        """Nothing goes on from ``step``."""
        for candidate in [one for one in self._candidates if one.step == step]:
            self._give_up(candidate)

    def advance(self, step: int) -> None:
        """``step`` is done."""
        self.step = max(self.step, step)
        self.tell()
        self._touch()

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Take the row of ``step``."""
        self.metrics.add(step, metrics)
        self._touch()

    @property
    def cost(self) -> int:
        """How many steps a crash would cost now."""
        return self.step - self.record.step

    def tell(self, state: str = "training") -> None:
        """Say in the table of what is pending how far the job is."""
        step = how_far(self.step, self.record.total)
        self._entry.enter(state, f"step {step}; {self._at_stake()}", expected=True)

    async def work(self) -> None:
        """Write what is due, for ever. Disks that refuse are tried again."""
        delay = _FIRST_DELAY
        while True:
            seen = self.changed.value
            try:
                await self.write()
            except DiskError as error:
                _log.error(
                    "the job %s can't write, which is tried again in %g s: %s", self._folder.name, delay, error
                )
                self._entry.explain(f"{self._at_stake()}, since nothing can be written: {error}")
                await trio.sleep(delay)
                delay = min(2 * delay, _LONGEST_DELAY)
                continue
            delay = _FIRST_DELAY
            while self.changed.value == seen:
                await self.changed.wait_transition()  # pyright: ignore[reportUnknownMemberType]  # trio-util's own gap

    async def write(self) -> None:
        """Write what is due now. Raises DiskError, and is to be called again then."""
        await self.metrics.flush()
        await self._account()
        while (candidate := self._due()) is not None:
            await self._record(candidate)
        now = self._now()
        if (now.checkpoints, now.strays, now.scores) != (
            self.record.checkpoints,
            self.record.strays,
            self.record.scores,
        ):
            await self._store(now)

    async def finish(self, status: JobStatus, reason: str) -> None:
        """No more rows come: write all that is left, and how the job ended. Raises DiskError."""
        self._ending = True
        await self.write()
        await self._store(self._now(status=status, reason=reason))

    async def fail(self, reason: str) -> None:
        """The program has ended within a step: say so, and no more. Raises DiskError."""
        await self._account()
        await self._store(self._now(status="failed", reason=reason))

    def _saved(self, candidate: Candidate, saved: Future[SaveWeightsResponse]) -> None:
        if candidate not in self._candidates:
            return
        if saved.failed():
            self._candidates.remove(candidate)
            return
        candidate.path = saved.outcome().path
        self._kept.hold(candidate.path)

    def _due(self) -> Candidate | None:
        """The newest that can be recorded; what is older is of no use then."""
        for candidate in reversed(self._candidates):
            settled = self.metrics.last_step >= candidate.step or self.step >= candidate.step + _ROW_WITHIN
            if candidate.path is not None and candidate.whole and (settled or self._ending):
                return candidate
        return None

    async def _record(self, candidate: Candidate) -> None:
        assert candidate.path is not None
        await self.metrics.flush()  # what its offset says must be certain before
        metrics_step, offset = self.metrics.place_of(candidate.step)
        point = ResumePoint(
            checkpoint=candidate.path,
            op_no=candidate.op_no,
            step=candidate.step,
            metrics_step=metrics_step,
            metrics_offset=offset,
            states=json.loads(candidate.captured.states),
            sampling=json.loads(candidate.captured.sampling),
        )
        before = self.record.point
        earlier = self.record.earlier if before is None else (*self.record.earlier, before)
        await self._store(self._now(point=point, earlier=earlier, versions=versions()))
        self._kept.hold(candidate.path, instead_of=None if before is None else before.checkpoint)
        if candidate in self._candidates:  # its step may have turned out to be none to go on from meanwhile
            for older in self._candidates[: self._candidates.index(candidate)]:
                self._give_up(older)
            self._candidates.remove(candidate)
        self.tell()
        _log.info("the job %s is safe up to step %d; %s", self._folder.name, candidate.step, self._at_stake())

    def _now(self, **changes: Any) -> ResumeRecord:
        """The record with ``changes``, and with what there is to go back to."""
        checkpoints = self._kept.saved()
        there = {saved.path for saved in checkpoints}
        record = msgspec.structs.replace(self.record, **changes)
        return msgspec.structs.replace(
            record,
            earlier=tuple(point for point in record.earlier if point.checkpoint in there)[-_EARLIER:],
            checkpoints=checkpoints,
            strays=self._kept.strays(),
            scores={saved.path: known for saved in checkpoints if (known := self._scores.known(saved.path))},
            written=time_of_day().isoformat(timespec="seconds"),
        )

    async def _account(self) -> None:
        """Write what has been used, also by what a death lets be done again."""
        if (used := self._usage()) != self._used:
            await self._folder.store_usage(used)
            self._used = used

    def _touch(self) -> None:
        self.changed.value += 1

    async def _store(self, record: ResumeRecord) -> None:
        with trio.CancelScope(shield=True):  # or nobody knew which of the two it is
            await self._folder.store(record)
        self.record = record

    def _at_stake(self) -> str:
        return f"a crash now costs {self.cost} step{'' if self.cost == 1 else 's'}"

    def _give_up(self, candidate: Candidate) -> None:
        self._candidates.remove(candidate)
        self._kept.hold(None, instead_of=candidate.path)


@final
class JobKeeper(Actor):
    """Has a job's Recorder write."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def init(self) -> None:
        """Go on with what is due."""
        self.context.start_task(self._recorder.work, name="recorder")
