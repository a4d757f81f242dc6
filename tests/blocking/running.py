"""Programs of a test in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.blocking.served import Served
from tests.cli.processes import environment

__all__ = ["end_of", "program"]

ROOT = Path(__file__).parents[2]
BEFORE = """
import asyncio, os, signal, sys, threading, time
from tests.blocking.programs import *
held = Holding()
def opened():
    return runtime_at(os.environ["URL"], "tml-local", held)
def say(text):
    print(text, flush=True)
"""


@contextmanager
def program(server: Served, code: str) -> Generator[subprocess.Popen[str]]:
    """``code`` in a process of its own, which is killed at the end of the block, with all that it has started."""
    process = subprocess.Popen(
        [sys.executable, "-c", BEFORE + textwrap.dedent(code)],
        cwd=ROOT,
        env=environment(URL=server.url, PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end: exit code, and all that was printed."""
    out, errors = process.communicate(timeout=60)
    return process.returncode, out + errors
