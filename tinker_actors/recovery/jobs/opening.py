"""A job opened: its folder taken, its client created or restored; and left, with a checkpoint and a record."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, cast, final

import msgspec
import trio

from supervision import ChildSpec, SupervisorRef
from tinker_actors.checks import flag, integer, text, texts
from tinker_actors.clients import ServiceClient
from tinker_actors.clients.closing import stop_child
from tinker_actors.config import CheckpointPolicy, parse_checkpoints
from tinker_actors.errors import (
    DiskDamaged,
    DiskError,
    InvalidInput,
    JobChanged,
    JobError,
)
from tinker_actors.flow.home import Home
from tinker_actors.flow.pending import PendingTable
from tinker_actors.ports import Disk
from tinker_actors.ports.time_of_day import time_of_day
from tinker_actors.recovery.choice import Scores
from tinker_actors.recovery.jobs.budget import Budget
from tinker_actors.recovery.jobs.folder import JobFolder, job_name, jobs_folder
from tinker_actors.recovery.jobs.interruption import Interruption
from tinker_actors.recovery.jobs.job import Capture, Job
from tinker_actors.recovery.jobs.metrics_file import MetricsFile
from tinker_actors.recovery.jobs.record import (
    JobConfig,
    JobStatus,
    ResumeRecord,
    how_far,
    program_command,
    versions,
    without_keys,
)
from tinker_actors.recovery.jobs.recorder import JobKeeper, Recorder
from tinker_actors.recovery.jobs.restoring import client_of
from tinker_actors.recovery.jobs.tracked import load_generator

__all__ = ["JobBlock", "JobHome", "JobOptions"]

_log = logging.getLogger("tinker_actors.jobs")

_LONGEST_REASON = 300  # characters
_DEFAULT_SECONDS = 600.0
_DEFAULT_TTL = 30 * 24 * 3600  # seconds: what a death leaves behind goes by itself
_TOLD_WITHIN = 5.0  # seconds for the last word of a program that fails


class JobHome(msgspec.Struct, frozen=True, kw_only=True):
    """What a job needs of its runtime."""

    keepers: SupervisorRef
    disk: Disk
    pending: PendingTable
    policy: CheckpointPolicy | None
    base_url: str
    create_service: Callable[[Mapping[str, str]], Awaitable[ServiceClient]]
    draw_seed: Callable[[], int]
    scores: Scores


class JobOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a program says of its job. Raises InvalidInput for values that make no sense."""

    name: str
    base_model: str
    rank: int = 32
    seed: int | None = None
    steps: int | None = None
    train_mlp: bool = True
    train_attn: bool = True
    train_unembed: bool = True
    updates_per_step: int = 1
    checkpoints: CheckpointPolicy | None = None
    budget: Budget | None = None
    folder: str | os.PathLike[str] | None = None
    user_metadata: Mapping[str, str] | None = None
    capture: Capture = "update"
    catch_signals: bool = True

    def __post_init__(self) -> None:
        keep = msgspec.structs.force_setattr
        keep(self, "name", job_name(self.name))
        text("base_model", self.base_model, "get_server_capabilities() lists the models")
        keep(self, "rank", integer("rank", self.rank, "Give a rank of at least 1", low=1))
        keep(self, "updates_per_step", integer("updates_per_step", self.updates_per_step, "Give 1 or more", low=1))
        if self.seed is not None:
            keep(self, "seed", integer("seed", self.seed, "Give a number from 0 below 2**31", low=0, high=2**31 - 1))
        if self.steps is not None:
            keep(self, "steps", integer("steps", self.steps, "Give how many, or None", low=0))
        for name in ("train_mlp", "train_attn", "train_unembed", "catch_signals"):
            flag(name, getattr(self, name))
        if self.capture not in ("update", "step"):
            raise InvalidInput("capture", f"{self.capture!r} is neither", 'Give "update" or "step"')
        keep(self, "checkpoints", parse_checkpoints("checkpoints", self.checkpoints))
        if self.budget is not None:
            if not isinstance(self.budget, Budget):  # pyright: ignore[reportUnnecessaryIsInstance]  # no type checker at work
                raise InvalidInput("budget", f"is of type {type(self.budget).__name__}", "Give a Budget")
            self.budget.require_price(self.base_model)
        keep(self, "user_metadata", texts("user_metadata", self.user_metadata))

    def config(self, seed: int) -> JobConfig:
        """What of it can't be changed."""
        return JobConfig(
            base_model=self.base_model,
            rank=self.rank,
            seed=seed,
            train_mlp=self.train_mlp,
            train_attn=self.train_attn,
            train_unembed=self.train_unembed,
            updates_per_step=self.updates_per_step,
        )


@final
class JobBlock:
    """``async with runtime.job(...) as job``: opens the job, and leaves it as the block ends."""

    def __init__(self, home: JobHome, options: JobOptions) -> None:
        self._home = home
        self._options = options
        self._where = Home()
        self._folder = JobFolder(home.disk, jobs_folder(options.folder, os.environ), options.name)
        self._stack = AsyncExitStack()
        self._opened: tuple[Job, Recorder] | None = None

    if not TYPE_CHECKING:  # type checkers know it

        def __getattr__(self, name: str) -> object:
            problem = f"a JobBlock has no {name!r}, the job within it may: async with runtime.job(...) as job"
            raise AttributeError(problem, name=name, obj=self)

    @property
    def catches_signals(self) -> bool:
        """Whether a Ctrl-C is to be an orderly end."""
        return self._options.catch_signals

    async def __aenter__(self) -> Job:
        job = await self.open()
        if self.catches_signals:
            token = trio.lowlevel.current_trio_token()

            def asked(name: str) -> None:
                with suppress(trio.RunFinishedError):
                    token.run_sync_soon(job.stop, name)

            self._stack.enter_context(Interruption(asked))
        return job

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(error)

    async def open(self) -> Job:
        """The job, ready to train.

        Raises JobInUse, JobChanged or JobError for what is in its folder, DiskError where that can't be used, and the
        server's refusal as it came.
        """
        self._where.require("the job")
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._folder.hold())
            record = await self._begin()
            try:
                self._opened = await self._start(record, stack)
            except BaseException as error:
                await self._not_opened(error)
                raise
            self._stack = stack.pop_all()
        return self._opened[0]

    async def _not_opened(self, error: BaseException) -> None:
        """Record what has kept it from being opened, or it would be taken for a process that has died."""
        with trio.move_on_after(_TOLD_WITHIN, shield=True), suppress(DiskError, JobError):
            record = await self._folder.load()
            if record is not None and record.status == "running":
                status: JobStatus = "failed" if isinstance(error, Exception) else "stopped"
                reason = _reason_of(error) if status == "failed" else "it was left while it was being opened"
                await self._folder.store(msgspec.structs.replace(record, status=status, reason=reason))

    async def close(self, error: BaseException | None) -> None:
        """Leave it: with a checkpoint and a record where the block has ended well."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        try:
            if error is None:
                await self._finish(*opened)
            else:
                await self._fail(*opened, error)
        except BaseException as failure:
            error = failure
            raise
        finally:
            await self._stack.__aexit__(type(error) if error is not None else None, error, None)

    async def _finish(self, job: Job, recorder: Recorder) -> None:
        try:
            status, reason = await job.finish()
        except Exception as error:
            await self._fail(job, recorder, error)
            raise
        await self._stop_keeper()
        try:
            await recorder.finish(status, reason)
        except DiskError:
            _log.error(
                "the job %s could not write its last record, so it would go on after step %d, of %d that were done. "
                "Make the disk usable, and run the program again",
                *(job.name, job.safe_step, job.step),
            )
            raise
        self._say(job, status, reason)

    async def _fail(self, job: Job, recorder: Recorder, error: BaseException) -> None:
        job.leave()
        with trio.move_on_after(_TOLD_WITHIN, shield=True):
            await self._stop_keeper()
            with suppress(DiskError):
                await recorder.fail(_reason_of(error))
        _log.warning(
            "the job %s was left by %s: it goes on after step %d", job.name, _reason_of(error), job.safe_step
        )

    async def _stop_keeper(self) -> None:
        await stop_child(self._home.keepers, f"job-{self._options.name}")

    def _say(self, job: Job, status: str, reason: str) -> None:
        if status == "done":
            _log.info("the job %s is done, with %d steps: %s", job.name, job.safe_step, job.folder)
            return
        again = f"tinker-actors job resume {job.name}"
        if self._options.folder is not None or "TINKER_ACTORS_JOBS" in os.environ:
            again += f" --folder {shlex.quote(str(job.folder.parent))}"
        step = how_far(job.safe_step, job.total)
        again = f"To go on, run the program again, or: {again}"
        line = f"The job {job.name} has stopped after step {step} ({reason}). {again}"
        if self.catches_signals:
            with suppress(OSError, ValueError):  # nobody reads it any more
                print(line, file=sys.stderr, flush=True)
            _log.info("%s", line)  # not a warning: a program without a log of its own would show it twice
        else:
            _log.warning("%s", line)

    async def _begin(self) -> ResumeRecord:
        """The record of this start, stored before anything is asked of the server."""
        options, found = self._options, await self._folder.load()
        seed = options.seed
        if found is not None and found.name != options.name:
            raise JobError(
                f"{self._folder.path} has the record of the job {found.name}, and its checkpoints: a job can't be "
                f"copied or renamed with its folder. Name that {found.name} again, or remove it to begin "
                f"{options.name} anew"
            )
        if found is None:
            record = ResumeRecord(
                name=options.name, config=options.config(self._home.draw_seed() if seed is None else seed)
            )
        else:
            given = options.config(found.config.seed if seed is None else seed)
            record = found
            if given != found.config:
                told = _differences(found.config, given)
                if await self._has_trained(found):
                    raise JobChanged(
                        f"the job {options.name} was begun with other values: {told}. Give it the old ones, or "
                        f"another name; or remove {self._folder.path} to begin it anew"
                    )
                _log.warning("the job %s has trained nothing yet, and takes other values: %s", options.name, told)
                record = msgspec.structs.replace(found, config=given)
        ended = record.status == "done" and (options.steps is None or record.step >= options.steps)
        record = msgspec.structs.replace(
            record,
            total=options.steps,
            status="done" if ended else "running",
            reason="" if not ended else record.reason,
            starts=record.starts + 1,
            command=program_command(),
            directory=str(Path.cwd()),
            base_url=without_keys(self._home.base_url),
            versions=versions(),
            written=time_of_day().isoformat(timespec="seconds"),
        )
        await self._folder.store(record)
        if ended:
            _log.warning(
                "the job %s is done already, with %d steps (%s). Another name, or more steps, trains again",
                *(record.name, record.step, self._folder.path),
            )
        return record

    async def _has_trained(self, found: ResumeRecord) -> bool:
        """Whether there is a checkpoint or a row; there is neither where the server refused the first values."""
        return found.point is not None or bool(await self._home.disk.size(self._folder.metrics))

    async def _rows(self, record: ResumeRecord) -> MetricsFile:
        """metrics.jsonl, cut back to the record's point."""
        point = record.point
        metrics = MetricsFile(
            self._home.disk,
            self._folder.metrics,
            step=0 if point is None else point.metrics_step,
            offset=0 if point is None else point.metrics_offset,
        )
        try:
            await metrics.cut()
        except DiskDamaged as error:
            raise JobError(
                f"the job {record.name} can't go on: {error}. Its record says that rows up to step "
                f"{metrics.last_step} were written. Restore the file, or remove {self._folder.path}"
            ) from error
        return metrics

    async def _start(self, record: ResumeRecord, stack: AsyncExitStack) -> tuple[Job, Recorder]:
        home = self._home
        used = await self._folder.load_usage()
        metrics = await self._rows(record)
        service = await home.create_service({"job": record.name, **(self._options.user_metadata or {})})
        await stack.enter_async_context(service)
        opened = record
        client, record = await client_of(service, opened, self._policy(), self._folder.path)
        if record is not opened:  # it goes back further: the record first, which must never promise rows that are not
            await self._folder.store(record)
            metrics = await self._rows(record)
        point = record.point
        if point is None:  # by the job's own seed, or a death before the first record would change what is sampled
            service.seeds.seed(f"samples of a job of seed {record.config.seed}")
        elif point.sampling is not None:
            load_generator(service.seeds, point.sampling)
        kept, updates = client.checkpoints.kept, record.step * record.config.updates_per_step
        for saved in record.checkpoints:
            kept.adopt(saved, discarded=saved.step > updates)
        for path in record.strays:
            kept.look_for(path)
        for path, known in record.scores.items():
            home.scores.note(path, known)
        client.checkpoints.begin_at(updates, f"{record.starts}")
        entry = home.pending.open(f"job {record.name}", "job", "training")
        stack.callback(home.pending.close, entry)
        recorder = Recorder(
            self._folder,
            record,
            metrics,
            kept,
            scores=home.scores,
            usage=lambda: job.usage(),  # noqa: PLW0108  # which is made below
            entry=entry,
        )
        job = Job(
            client=client,
            service=service,
            recorder=recorder,
            folder=self._folder.path,
            budget=self._options.budget,
            before=used,
            captures=self._options.capture,
            home=self._where,
        )
        recorder.tell()
        spec = ChildSpec(f"job-{record.name}", lambda: JobKeeper(recorder), max_restarts=10, max_seconds=60.0)
        await home.keepers.start_child(spec)
        stack.push_async_callback(self._stop_keeper)
        if point is None:
            _log.info("the job %s begins, start %d: %s", record.name, record.starts, self._folder.path)
        else:
            step = how_far(point.step, record.total)
            _log.info("the job %s goes on after step %s, from %s", record.name, step, point.checkpoint)
        return job, recorder

    def _policy(self) -> CheckpointPolicy:
        given = self._options.checkpoints
        if given is not None:
            return given
        policy = self._home.policy
        if policy is None:
            return CheckpointPolicy(every_seconds=_DEFAULT_SECONDS, ttl_seconds=_DEFAULT_TTL)
        if policy.every_steps is None and policy.every_seconds is None and policy.every_bytes is None:
            ttl = _DEFAULT_TTL if policy.ttl_seconds is None else policy.ttl_seconds
            policy = msgspec.structs.replace(policy, every_seconds=_DEFAULT_SECONDS, ttl_seconds=ttl)
        return policy


def _differences(found: JobConfig, given: JobConfig) -> str:
    other = [name for name in JobConfig.__struct_fields__ if getattr(found, name) != getattr(given, name)]
    return ", ".join(f"{name} is {getattr(given, name)!r}, was {getattr(found, name)!r}" for name in other)


def _reason_of(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    if isinstance(error, KeyboardInterrupt | trio.Cancelled | SystemExit):
        return type(error).__name__
    return without_keys(f"{type(error).__name__}: {error}")[:_LONGEST_REASON]
