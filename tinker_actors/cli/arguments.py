"""The options of each command, read and checked before anything starts."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn, TypeAlias, final

import msgspec

from tinker_actors import __version__
from tinker_actors.cli.job_options import JobCommand, add_job_options, read_job_options
from tinker_actors.cli.numbers import positive, seed
from tinker_actors.cli.serve_options import KEY, ServeOptions, add_serve_options, read_serve_options
from tinker_actors.config import Config, Secret, require_key
from tinker_actors.errors import InvalidInput

__all__ = ["DEFAULT_STEPS", "DemoOptions", "JobCommand", "Options", "ServeOptions", "parse"]

DEFAULT_STEPS: Final = 150
_LOOPBACK: Final = "127.0.0.1"


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``demo`` is asked for. Without ``base_url`` it starts a local server of its own."""

    seed: int = 0
    steps: int = DEFAULT_STEPS
    faults: bool = True
    run_dir: Path | None = None
    base_url: str | None = None
    api_key: Secret | None = None
    json: bool = False


Options: TypeAlias = DemoOptions | ServeOptions | JobCommand


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; a wrong one is named in one line on standard error, and the exit code is 2."""
    parser = _Parser(
        prog="tinker-actors",
        description="Fine-tune language models through the Tinker API, supervised.",
        epilog="`tinker-actors COMMAND --help` lists the options of a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tinker-actors {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    demo = commands.add_parser(
        "demo",
        allow_abbrev=False,
        help="teach a small model Pig Latin, with faults on the way, and prove that nothing was lost",
        description=(
            "Teach a small language model Pig Latin through the supervised runtime. In the first third the demo "
            "crashes the training actor twice and loses a request and a reply; then it proves that every "
            "operation took effect exactly once, in order. Exit code 1 when a check fails."
        ),
    )
    _add_demo(demo)
    serve = commands.add_parser(
        "serve",
        allow_abbrev=False,
        help="run the local Tinker-compatible server",
        description="Run a Tinker-compatible server with a small real model on this machine, until Ctrl-C.",
    )
    add_serve_options(serve)
    job = commands.add_parser(
        "job",
        allow_abbrev=False,
        help="list and show the jobs in a folder, and go on with one",
        description="What programs have recorded of their jobs (runtime.job), and how to go on with one.",
    )
    add_job_options(job)
    values, unknown = parser.parse_known_args(arguments)
    if unknown:
        named = {"demo": demo, "serve": serve, "job": job}
        named[values.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    if values.command == "job":
        try:
            return read_job_options(values, os.environ)
        except InvalidInput as error:
            job.error(str(error))
    if values.command == "demo":
        try:
            return _read_demo(values)
        except InvalidInput as error:
            demo.error(str(error))
    try:
        return read_serve_options(values, os.environ)
    except InvalidInput as error:
        serve.error(str(error))


@final
class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # a key behind a mistyped option is quoted as well
        self.exit(2, f"{self.prog}: {KEY.sub('[hidden]', message)} (see {self.prog} --help)\n")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of every random choice (default 0)")
    parser.add_argument(
        "--steps",
        type=positive,
        default=DEFAULT_STEPS,
        metavar="N",
        help=f"training steps of 32 words (default {DEFAULT_STEPS})",
    )
    parser.add_argument("--no-faults", dest="faults", action="store_false", help="let nothing go wrong")
    parser.add_argument(
        "--run-dir",
        type=Path,
        metavar="FOLDER",
        help="where metrics, log and loss curve go (default runs/DATE-TIME)",
    )
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help="use this server instead of starting one; no faults, and what it can't tell is left out",
    )
    parser.add_argument("--api-key", metavar="KEY", help="for that server (default: TINKER_API_KEY)")
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object on the last line")


def _read_demo(values: argparse.Namespace) -> DemoOptions:
    key: str | None = values.api_key
    base_url: str | None = values.base_url
    if base_url is not None or key is not None:
        checked = Config.load(base_url=base_url or f"http://{_LOOPBACK}", api_key=key)
        secret = require_key(checked)
    else:
        secret = None
    return DemoOptions(
        seed=values.seed,
        steps=values.steps,
        faults=values.faults,
        run_dir=values.run_dir,
        base_url=base_url,
        api_key=secret,
        json=values.json,
    )
