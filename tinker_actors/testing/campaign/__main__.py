"""``python -m tinker_actors.testing.campaign run | replay SEED | soak``: simulated runs from the command line."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext

from tinker_actors.testing.campaign.case import drawn_case
from tinker_actors.testing.campaign.search import Finding, check_case, explain, search, work

__all__ = ["main"]

_RUNS = 500


def main(argv: Sequence[str] | None = None) -> int:
    """Do it; 0 when every run has kept every promise."""
    arguments = _parser().parse_args(argv)
    match arguments.command:
        case "run":
            outcome = search(arguments.first, arguments.first + arguments.runs, processes=arguments.processes)
            _say(str(outcome.coverage))
            return _tell(outcome.findings)
        case "replay":
            return _replay(arguments.seed, verbose=arguments.verbose)
        case "soak":
            outcome = search(
                arguments.first, None, processes=arguments.processes, seconds=arguments.seconds, stop=False
            )
            # a seed whose faults all miss breaks no promise: only the gate wants none of them
            findings = [one for one in outcome.findings if not one.broken[0].startswith("vacuous")]
            status = _tell(findings)
            coverage = outcome.coverage
            _say(str(coverage))
            hours, found = coverage.seconds / 3600.0, len(findings)
            _say(f"simulated hours {hours:.1f}, faults {coverage.faults}, violations {found}")
            return status
        case _:
            for line in work(arguments.first, arguments.step, arguments.last, arguments.seconds):
                sys.stdout.buffer.write(line + b"\n")
                sys.stdout.buffer.flush()
            return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tinker_actors.testing.campaign", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="so many runs, each checked; stops at the first that breaks a promise")
    run.add_argument("--runs", type=int, default=_RUNS, help="how many (%(default)s)")
    soak = commands.add_parser("soak", help="runs until so many seconds are over")
    soak.add_argument("--seconds", type=float, required=True)
    for command in (run, soak):
        command.add_argument("--first", type=int, default=0, help="the first seed (%(default)s)")
        command.add_argument("--processes", type=int, default=None, help="one for each core by default")
    replay = commands.add_parser("replay", help="one run again, and a smaller one that fails as well")
    replay.add_argument("seed", type=int)
    replay.add_argument("--verbose", action="store_true", help="with the log of the runtime")
    worker = commands.add_parser("work", help="for the other commands: a line of JSON for each seed")
    worker.add_argument("first", type=int)
    worker.add_argument("step", type=int)
    worker.add_argument("--last", type=int, default=None)
    worker.add_argument("--seconds", type=float, default=None)
    return parser


def _replay(seed: int, *, verbose: bool) -> int:
    case = drawn_case(seed)
    _say(f"{case!r}")
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    with nullcontext() if verbose else _quiet():
        broken, covered = check_case(case)
    if not broken:
        _say(f"every promise is kept; {covered}")
        return 0
    with _quiet():
        _say(explain(Finding(seed, broken)))
    return 1


@contextmanager
def _quiet() -> Generator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _tell(findings: Sequence[Finding]) -> int:
    with _quiet():
        for number, finding in enumerate(findings):
            _say(explain(finding, smaller=number == 0))
    return 1 if findings else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
