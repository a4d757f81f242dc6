"""What a measured client process reports: CPU by getrusage of the process itself, all threads."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import final

import msgspec

__all__ = ["Meter", "Usage", "measure", "memory_now", "memory_peak", "report", "reset_memory_peak"]


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


def reset_memory_peak() -> None:
    """Count the highest resident size of this process anew from here. Linux only."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def memory_now() -> Usage:
    """The resident size of this process now, in ``peak_rss_mib``. Linux only."""
    return Usage(cpu=0.0, wall=0.0, peak_rss_mib=_status("VmRSS"))


def memory_peak() -> Usage:
    """Its highest since ``reset_memory_peak``. Linux only."""
    return Usage(cpu=0.0, wall=0.0, peak_rss_mib=_status("VmHWM"))


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


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
