"""``tinker-actors job list|show|resume``: what the records of jobs say, and the command that goes on with one."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import msgspec
import trio

from tinker_actors.cli.job_options import JobCommand
from tinker_actors.errors import DiskError, DiskMissing, JobError, JobInUse
from tinker_actors.ports import FileDisk, ThreadOffload
from tinker_actors.recovery.jobs import JobFolder, ResumeRecord, find_job, list_jobs
from tinker_actors.recovery.jobs.folder import JOBS_VARIABLE
from tinker_actors.recovery.jobs.record import HIDDEN

__all__ = ["run_job_command"]

_TAIL = 65_536  # bytes: the newest row stands in the last of them


def run_job_command(command: JobCommand) -> int:
    """Do it, and return the exit code; ``resume`` does not return, for the job's program takes its place.

    Raises InvalidInput for a name that there is not, JobError or DiskError for what can't be read or resumed.
    """
    disk = FileDisk(ThreadOffload(1))
    if command.verb == "list":
        return trio.run(_list, disk, command)
    if command.verb == "show":
        return trio.run(_show, disk, command)
    record = trio.run(_resumable, disk, command)
    return 0 if record is None else _execute(record, command.folder)


async def _list(disk: FileDisk, command: JobCommand) -> int:
    jobs = await list_jobs(disk, command.folder)
    rows: list[tuple[str, ...]] = []
    for folder, record in jobs:
        try:
            if isinstance(record, JobError | DiskError):
                raise record
            state = await _state(folder, record)
        except (JobError, DiskError) as error:
            rows.append((folder.name, "damaged", "", "", str(error)))
            continue
        if command.json:
            print(json.dumps(_told(record, state)))
        rows.append((folder.name, state, _progress(record), record.written, record.reason))
    if command.json:
        return 0
    if not rows:
        print(f"there are no jobs in {command.folder}")
        return 0
    table = [("NAME", "STATE", "STEP", "WRITTEN", "REASON"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    for *cells, last in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        print(f"{line}  {last}".rstrip())
    return 0


async def _show(disk: FileDisk, command: JobCommand) -> int:
    folder, record = await find_job(disk, command.folder, command.name)
    state, row = await _state(folder, record), await _newest_row(disk, folder)
    if command.json:
        print(json.dumps(_told(record, state) | {"row": row}))
        return 0
    point = record.point
    config = ", ".join(f"{name} {getattr(record.config, name)}" for name in record.config.__struct_fields__)
    usage = await folder.load_usage()
    lines: list[tuple[str, str]] = [
        ("job", record.name),
        ("state", f"{state} ({record.reason})" if record.reason else state),
        ("safe step", _progress(record)),
        ("checkpoint", "none: it would begin anew" if point is None else point.checkpoint),
        ("before it", ", ".join(f"{one.checkpoint} (step {one.step})" for one in record.earlier) or "none"),
        ("server", record.base_url),
        ("configuration", config),
        ("starts", str(record.starts)),
        ("written", record.written),
        ("tokens", ", ".join(f"{model}: {one.trained:,} trained" for model, one in usage.items()) or "none"),
        ("newest row", "none" if row is None else json.dumps(row)),
        ("folder", str(folder.path)),
        ("directory", record.directory),
        ("command", shlex.join(record.command) or "none: run the program again"),
        ("versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
    ]
    for name, text in lines:
        print(f"{name:<14}{text}")
    return 0


async def _resumable(disk: FileDisk, command: JobCommand) -> ResumeRecord | None:
    folder, record = await find_job(disk, command.folder, command.name)
    if await folder.in_use():
        raise JobInUse(f"the job {record.name} is being run by another process. Wait for its end, or stop it")
    if record.status == "done":
        print(f"the job {record.name} is done, with {record.step} steps")
        return None
    if not record.command:
        raise JobError(f"the job {record.name} was not begun by a command line. Run its program again")
    if any(HIDDEN in part for part in record.command):
        raise JobError(
            f"the command line of the job {record.name} held a key, which is not kept. Set TINKER_API_KEY and run it "
            f"yourself: {shlex.join(record.command)}"
        )
    return record


def _execute(record: ResumeRecord, folder: Path) -> int:
    print(
        f"{record.name} goes on after step {record.step}: {shlex.join(record.command)}", file=sys.stderr, flush=True
    )
    program, *_ = record.command
    try:
        os.chdir(record.directory)
    except OSError as error:
        raise JobError(
            f"the job {record.name} was begun in {record.directory}, which can't be entered: {error.strerror}. "
            "Restore it, or run the program again yourself"
        ) from None
    try:
        os.execvpe(program, record.command, os.environ | {JOBS_VARIABLE: str(folder)})  # noqa: S606  # the user's own
    except OSError as error:
        raise JobError(f"{program} can't be run: {error.strerror}. Run the job's program again yourself") from None


async def _state(folder: JobFolder, record: ResumeRecord) -> str:
    if await folder.in_use():
        return "running"
    return "died" if record.status == "running" else record.status


async def _newest_row(disk: FileDisk, folder: JobFolder) -> Any:
    try:
        size = await disk.size(folder.metrics) or 0
        data = await disk.read(folder.metrics, offset=max(0, size - _TAIL))
    except DiskMissing:
        return None
    for line in reversed(data.splitlines()):
        try:
            return json.loads(line)
        except ValueError:
            continue  # torn
    return None


def _progress(record: ResumeRecord) -> str:
    if record.total is None:
        return str(record.step)
    more = record.step > record.total  # the program has come back with fewer
    return f"{record.step} ({record.total} asked)" if more else f"{record.step}/{record.total}"


def _told(record: ResumeRecord, state: str) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(record) | {"state": state, "step": record.step}
    if told["point"] is not None:
        told["point"] = _without_states(told["point"])
    told["earlier"] = [_without_states(point) for point in told["earlier"]]
    return told


def _without_states(point: dict[str, Any]) -> dict[str, Any]:
    return {name: point[name] for name in ("checkpoint", "step", "op_no", "metrics_offset")}
