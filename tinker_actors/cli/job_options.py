"""The options of ``tinker-actors job``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from tinker_actors.recovery.jobs.folder import JOBS_VARIABLE, job_name, jobs_folder

__all__ = ["JobCommand", "JobVerb", "add_job_options", "read_job_options"]

JobVerb: TypeAlias = Literal["list", "show", "resume"]


class JobCommand(msgspec.Struct, frozen=True, kw_only=True):
    """What ``job`` is asked for: ``name`` is that of a job, except for a list."""

    verb: JobVerb
    folder: Path
    name: str = ""
    json: bool = False


def add_job_options(parser: argparse.ArgumentParser) -> None:
    """Add the verbs and their options."""
    verbs = parser.add_subparsers(dest="verb", metavar="list|show|resume", required=True)
    for verb, text in (
        ("list", "the jobs in a folder: how far each is, and what became of it"),
        ("show", "all that is recorded of one job, and its newest row of metrics"),
        ("resume", "run the command again that has begun the job, in the same directory"),
    ):
        one = verbs.add_parser(verb, allow_abbrev=False, help=text, description=text[0].upper() + text[1:] + ".")
        if verb != "list":
            one.add_argument("name", metavar="NAME", help="of the job")
        one.add_argument(
            "--folder", metavar="FOLDER", help=f"where jobs have their folders (default {JOBS_VARIABLE}, else ./jobs)"
        )
        if verb != "resume":
            one.add_argument("--json", action="store_true", help="print one JSON object on one line for each job")


def read_job_options(values: argparse.Namespace, environ: Mapping[str, str]) -> JobCommand:
    """Raises InvalidInput for a name or a folder that can't be one."""
    verb: JobVerb = values.verb
    return JobCommand(
        verb=verb,
        folder=jobs_folder(values.folder, environ),
        name="" if verb == "list" else job_name(values.name),
        json=getattr(values, "json", False),
    )
