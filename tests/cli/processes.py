"""The command line as a process, and what is left of processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import final

__all__ = ["COMMAND", "Running", "alive", "environment", "gone", "running"]

COMMAND = (sys.executable, "-m", "tinker_actors.cli")


def environment(**changes: str) -> Mapping[str, str]:
    """This process's environment without a user's own Tinker settings, and with ``changes``."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TINKER_")}
    return kept | changes


def alive(pid: int) -> bool:
    """Whether a process runs; a dead child that nobody has waited for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def gone(pid: int, within: float = 30.0) -> bool:
    """Whether a process has ended, or does so in ``within`` seconds."""
    deadline = time.monotonic() + within
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@final
class Running:
    """A command under way; its output is read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def wait_for(self, start: str) -> str:
        """Read up to the line that begins with ``start``, and return it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith(start):
                return line
        raise AssertionError(f"no line begins with {start!r}: {self.lines} {self.process.communicate()}")

    def server_pid(self) -> int:
        """Read up to the line that names the server's process."""
        return int(self.wait_for("server ").partition("(pid ")[2].partition(")")[0])

    def finish(self, within: float = 180.0) -> tuple[int, list[str], str]:
        """Wait for the end: exit code, all lines of output, standard error."""
        out, errors = self.process.communicate(timeout=within)
        self.lines.extend(out.splitlines())
        return self.process.returncode, self.lines, errors


@contextmanager
def running(*arguments: str, **changes: str) -> Generator[Running]:
    """Start ``tinker-actors`` with ``arguments``; it is killed if it still runs at the end of the block."""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**changes),
    ) as process:
        try:
            yield Running(process)
        finally:
            if process.poll() is None:
                process.kill()
