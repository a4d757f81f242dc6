"""Run seeds one after the other, in several processes, until one breaks a promise or all are done."""

from __future__ import annotations

import gc
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Final, cast

import msgspec

from tinker_actors.testing.campaign.case import Case, drawn_case
from tinker_actors.testing.campaign.checks import violations
from tinker_actors.testing.campaign.coverage import Coverage, Covered, covered_by
from tinker_actors.testing.campaign.run import run_case
from tinker_actors.testing.campaign.shrink import shrink

__all__ = ["Finding", "Outcome", "check_case", "explain", "search", "work"]

_COLLECT_EVERY: Final = 50_000  # new objects: each run leaves a world of cycles behind


class Finding(msgspec.Struct, frozen=True):
    """A seed whose run has broken promises, each said in a line."""

    seed: int
    broken: tuple[str, ...]


class _Line(msgspec.Struct, frozen=True):
    """What a worker tells of one run."""

    seed: int
    broken: tuple[str, ...]
    covered: Covered | None


class Outcome(msgspec.Struct, frozen=True):
    """Of a search: what was covered, and the findings, by seed."""

    coverage: Coverage
    findings: tuple[Finding, ...]


def check_case(case: Case) -> tuple[tuple[str, ...], Covered | None]:
    """Run ``case``: the promises that it has broken, and what it has covered if it came to its end."""
    try:
        report = run_case(case)
    except Exception as error:  # noqa: BLE001  # whatever comes out of a run is a finding
        return (f"P5: the run ended with {_first_of(error)}",), None
    return violations(case, report), covered_by(case, report)


def _first_of(error: Exception) -> str:
    while isinstance(error, ExceptionGroup):
        error = cast("ExceptionGroup[Exception]", error).exceptions[0]
    return f"{type(error).__name__}: {error}"


def work(first: int, step: int, last: int | None, seconds: float | None) -> Iterator[bytes]:
    """Run the seeds ``first``, ``first + step``, ... and give a line of JSON for each."""
    logging.disable(logging.CRITICAL)
    gc.set_threshold(_COLLECT_EVERY)
    ends = None if seconds is None else time.monotonic() + seconds
    seed = first
    while (last is None or seed < last) and (ends is None or time.monotonic() < ends):
        broken, covered = check_case(drawn_case(seed))
        yield msgspec.json.encode(_Line(seed, broken, covered))
        seed += step


def search(
    first: int, last: int | None, *, processes: int | None = None, seconds: float | None = None, stop: bool = True
) -> Outcome:
    """Run the seeds from ``first`` up to ``last``, or for so many ``seconds``, in ``processes`` (one for each core).

    With ``stop`` it ends soon after the first finding. Raises RuntimeError when a process ends by itself.
    """
    count = processes if processes is not None else os.cpu_count() or 1
    workers = [_start(first + number, count, last, seconds) for number in range(count)]
    lines: list[_Line] = []
    with closing(_said_by(workers)) as said:
        for text in said:
            line = msgspec.json.decode(text, type=_Line)
            lines.append(line)
            if line.broken and stop:
                break
    findings = sorted((Finding(line.seed, line.broken) for line in lines if line.broken), key=lambda one: one.seed)
    return Outcome(Coverage.of(line.covered for line in lines if line.covered is not None), tuple(findings))


def _said_by(workers: Sequence[subprocess.Popen[bytes]]) -> Generator[bytes]:
    """The lines of all, as they come."""
    said: queue.SimpleQueue[bytes | subprocess.Popen[bytes]] = queue.SimpleQueue()

    def listen(worker: subprocess.Popen[bytes]) -> None:
        assert worker.stdout is not None
        with worker.stdout:
            for text in worker.stdout:
                said.put(text)
        said.put(worker)

    threads = [threading.Thread(target=listen, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    left = len(workers)
    try:
        while left:
            text = said.get()
            if isinstance(text, bytes):
                yield text
            elif text.wait() == 0:
                left -= 1
            else:
                raise RuntimeError(f"a process of the search ended with status {text.returncode}")
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        for thread in threads:
            thread.join()


def _start(first: int, step: int, last: int | None, seconds: float | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tinker_actors.testing.campaign", "work", str(first), str(step)]
    command += ["--last", str(last)] if last is not None else []
    command += ["--seconds", str(seconds)] if seconds is not None else []
    return subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603  # our own module


def explain(finding: Finding, *, smaller: bool = True) -> str:
    """For people: what was broken, how to run it again, and a smaller case that breaks a promise, too."""
    lines = [f"seed {finding.seed} breaks a promise:", *(f"  {line}" for line in finding.broken[:8])]
    lines.append(f"to run it again: python -m tinker_actors.testing.campaign replay {finding.seed}")
    if smaller:
        case = shrink(drawn_case(finding.seed), lambda candidate: bool(_broken(candidate)))
        lines += ["shrunk to:", f"  {case!r}", *(f"  {line}" for line in _broken(case)[:8])]
    return "\n".join(lines)


def _broken(case: Case) -> tuple[str, ...]:
    return tuple(line for line in check_case(case)[0] if not line.startswith("vacuous"))
