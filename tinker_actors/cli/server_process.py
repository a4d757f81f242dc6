"""The local server as a child process that ends with the demo, whatever ends the demo."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, final

import trio

from tinker_actors.errors import TinkerError

__all__ = ["ServerProcess", "ServerStartError", "server_process"]

_START_BOUND: Final = 30.0  # seconds
_STOP_BOUND: Final = 5.0
_LISTENING: Final = b"listening on "


class ServerStartError(TinkerError):
    """The local server's process did not come up."""


@final
class ServerProcess:
    """A running server. Made by ``server_process``."""

    def __init__(self, process: trio.Process, url: str) -> None:
        self._process = process
        self.url = url

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def ending(self) -> str | None:
        """How the process ended, in words; None while it runs."""
        code = self._process.returncode
        return None if code is None else _ending(code)


@asynccontextmanager
async def server_process(log: Path) -> AsyncGenerator[ServerProcess]:
    """Start one on a free port of loopback, keeping everything in memory; what it says goes to the file ``log``.

    It gets a session of its own, so that Ctrl-C in the terminal reaches the demo first, and a pipe as its standard
    input: when the demo dies, even by ``kill -9``, the pipe closes and the server ends. Raises ServerStartError.
    """
    command = [sys.executable, "-m", "tinker_actors.cli", "serve", "--port", "0", "--stop-with-stdin"]
    with log.open("wb") as errors:
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
    try:
        yield ServerProcess(process, await _address(process, log))
    finally:
        with trio.CancelScope(shield=True):
            await _end(process)


async def _address(process: trio.Process, log: Path) -> str:
    assert process.stdout is not None
    said = b""
    with trio.move_on_after(_START_BOUND):
        while b"\n" not in said:
            piece = await process.stdout.receive_some()
            if not piece:
                break
            said += piece
    first, newline, _ = said.partition(b"\n")
    if newline and first.startswith(_LISTENING):
        return first.removeprefix(_LISTENING).decode().strip()
    with trio.move_on_after(1.0):  # an end of output comes shortly before the end of the process
        await process.wait()
    if process.returncode is None:
        raise ServerStartError(f"the local server is not up after {_START_BOUND:.0f} s{_last_words(log)}")
    raise ServerStartError(
        f"the local server did not start: its process {_ending(process.returncode)}{_last_words(log)}"
    )


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""


async def _end(process: trio.Process) -> None:
    if process.returncode is None:
        process.terminate()
        with trio.move_on_after(_STOP_BOUND):
            await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            await pipe.aclose()


def _ending(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
