"""What a measured client process reports: CPU by getrusage of the process itself, all threads."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from typing import final

import msgspec

__all__ = ["Meter", "Usage", "measure", "report"]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of CPU (user and system, all threads) and of wall time, and the process's peak memory so far."""

    cpu: float
    wall: float
    peak_rss_mib: float


@final
class Meter:
    """Measures from its making to ``stop``."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = _cpu()

    def stop(self) -> Usage:
        """What was used since."""
        cpu, wall = _cpu() - self._cpu, time.perf_counter() - self._wall
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return Usage(cpu=cpu, wall=wall, peak_rss_mib=peak)


def report(usages: dict[str, Usage]) -> None:
    """For the measured process: print the result as its last line."""
    print(msgspec.json.encode(usages).decode(), flush=True)


def measure(module: str, *arguments: str) -> dict[str, Usage]:
    """Run ``python -m module arguments`` and return what it reports; CalledProcessError when it fails."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        sys.stderr.write(done.stderr)
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=dict[str, Usage])


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
