"""The local server as a process of its own, as ``tinker-actors serve`` starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import final

__all__ = ["BASE_MODEL", "KEY", "running_server", "server_process", "ServerProcess"]

BASE_MODEL = "tinker-actors/base-s"
KEY = "tml-benchmark"


@final
class ServerProcess:
    """A running server, and what it uses."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self._pid = pid

    def cpu_seconds(self) -> float:
        """Its CPU time so far, user and system, all threads. Linux only."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """End it without a word (SIGKILL)."""
        os.kill(self._pid, signal.SIGKILL)

    def memory_kib(self, what: str = "VmRSS") -> int:
        """Its resident size now, or with ``VmHWM`` the highest so far. Linux only."""
        found = re.search(rf"^{what}:\s+(\d+) kB$", Path(f"/proc/{self._pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1])


@contextmanager
def server_process() -> Generator[str]:
    """Start one on a free port of loopback, keeping nothing on disk; the value is its URL."""
    with running_server() as server:
        yield server.url


@contextmanager
def running_server(*options: str) -> Generator[ServerProcess]:
    """Start one on a free port of loopback with more options of ``serve``."""
    command = [sys.executable, "-m", "tinker_actors.cli", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                raise RuntimeError(f"the server did not start: {line!r}, exit code {process.poll()}")
            yield ServerProcess(line.removeprefix("listening on ").strip(), process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
