"""The folder of a job: record.json, metrics.jsonl, usage.json, and the lock of the process that works in it."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, final

import msgspec

from tinker_actors.checks import text
from tinker_actors.errors import DiskError, DiskLocked, DiskMissing, InvalidInput, JobError, JobInUse, NotAFolder
from tinker_actors.metrics import ModelUsage
from tinker_actors.ports import Disk
from tinker_actors.recovery.jobs.record import ResumeRecord, decode_record, encode_record

__all__ = ["JOBS_VARIABLE", "JobFolder", "find_job", "job_name", "jobs_folder", "list_jobs"]

JOBS_VARIABLE: Final = "TINKER_ACTORS_JOBS"
_DEFAULT = "jobs"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")


def job_name(given: object) -> str:
    """``given`` if it can name a job, its folder and its checkpoints; else InvalidInput."""
    cure = "Use up to 64 letters, digits, _ and -"
    name = text("name", given, cure)
    if not _NAME.match(name):
        raise InvalidInput("name", f"{name!r} can't name a job", cure)
    return name


def jobs_folder(given: object, environ: Mapping[str, str]) -> Path:
    """Where jobs have their folders: what is ``given``, else TINKER_ACTORS_JOBS, else ./jobs. An absolute path."""
    if given is None:
        given = environ.get(JOBS_VARIABLE, "").strip() or _DEFAULT
    if not isinstance(given, str | os.PathLike):
        raise InvalidInput("folder", f"is of type {type(given).__name__}", "Give the path of a folder")
    return Path(os.path.abspath(os.fspath(given)))  # noqa: PTH100  # resolve() would follow links


@final
class JobFolder:
    """One job's files, through a Disk."""

    def __init__(self, disk: Disk, folder: Path, name: str) -> None:
        self.disk = disk
        self.name = name
        self.path = folder / name
        self.metrics = self.path / "metrics.jsonl"
        self._record = self.path / "record.json"
        self._usage = self.path / "usage.json"
        self._lock = self.path / "lock"

    @asynccontextmanager
    async def hold(self) -> AsyncGenerator[None]:
        """Work in it alone. Raises JobInUse where another process does."""
        await self.disk.make_folder(self.path)
        lock = self.disk.lock(self._lock)
        try:
            await lock.__aenter__()
        except DiskLocked as error:
            raise JobInUse(
                f"the job {self.name} is being run by another process, which holds {self._lock}. Wait for its end, "
                "stop it, or give this job another name"
            ) from error
        try:
            yield
        finally:
            await lock.__aexit__(None, None, None)

    async def load(self) -> ResumeRecord | None:
        """Its record; None before the first. Raises JobError for a file that is none."""
        try:
            data = await self.disk.read(self._record)
        except DiskMissing:
            return None
        return decode_record(data, self._record)

    async def store(self, record: ResumeRecord) -> None:
        """Put ``record`` in place of the one before: whoever reads it, ever, finds the one or the other."""
        await self.disk.replace(self._record, encode_record(record))

    async def load_usage(self) -> dict[str, ModelUsage]:
        """What all of its processes have used, by base model. Raises JobError for a file that says nothing of it."""
        try:
            return msgspec.json.decode(await self.disk.read(self._usage), type=dict[str, ModelUsage])
        except DiskMissing:
            return {}
        except msgspec.DecodeError as error:
            raise JobError(
                f"{self._usage} does not say what the job has used ({error}). Restore it, or remove it to count anew"
            ) from None

    async def store_usage(self, usage: Mapping[str, ModelUsage]) -> None:
        """What they have used by now."""
        await self.disk.replace(self._usage, msgspec.json.encode(usage) + b"\n")

    async def in_use(self) -> bool:
        """Whether some process works in it now. Whoever begins to meanwhile is not disturbed."""
        return await self.disk.locked(self._lock)


async def list_jobs(disk: Disk, folder: Path) -> tuple[tuple[JobFolder, ResumeRecord | JobError | DiskError], ...]:
    """Every job in ``folder``, sorted by name, with its record or why that can't be read."""
    try:
        names = await disk.names(folder)
    except DiskMissing:
        return ()
    found: list[tuple[JobFolder, ResumeRecord | JobError | DiskError]] = []
    for name in names:
        if not _NAME.match(name):
            continue
        job = JobFolder(disk, folder, name)
        try:
            if await _is_file(disk, folder / name):
                continue
            record = await job.load()
        except (JobError, DiskError) as error:
            found.append((job, error))
        else:
            if record is not None:
                found.append((job, record))
    return tuple(found)


async def find_job(disk: Disk, folder: Path, name: str) -> tuple[JobFolder, ResumeRecord]:
    """The job ``name``. Raises InvalidInput, naming those that there are, and JobError for a record that is none,
    DiskError for one that can't be read.
    """
    there = {job.name: (job, record) for job, record in await list_jobs(disk, folder)}
    if name not in there:
        near = difflib.get_close_matches(name, there, n=1)
        cure = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(there)}" if there else "There are none"
        raise InvalidInput("name", f"there is no job {name!r} in {folder}", cure)
    job, record = there[name]
    if isinstance(record, JobError | DiskError):
        raise record
    return job, record


async def _is_file(disk: Disk, path: Path) -> bool:
    try:
        await disk.names(path)
    except NotAFolder:
        return True
    return False
