"""The local server as a process of its own, as ``tinker-actors serve`` starts it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["BASE_MODEL", "KEY", "server_process"]

BASE_MODEL = "tinker-actors/base-s"
KEY = "tml-benchmark"


@contextmanager
def server_process() -> Generator[str]:
    """Start one on a free port of loopback, keeping nothing on disk; the value is its URL."""
    command = [sys.executable, "-m", "tinker_actors.cli", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                raise RuntimeError(f"the server did not start: {line!r}, exit code {process.poll()}")
            yield line.removeprefix("listening on ").strip()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
