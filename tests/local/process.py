"""A served local server in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

KEY = "tml-process"
TINY = "tinker-actors/tiny"

_PROGRAM = """
import sys, trio, msgspec
from tinker_actors.local.server import serve
from tinker_actors.local.settings import ServerSettings
trio.run(serve, msgspec.json.decode(sys.argv[1], type=ServerSettings, dec_hook=lambda kind, value: kind(value)))
"""


class Served(msgspec.Struct, frozen=True):
    url: str
    process: subprocess.Popen[str]


@contextmanager
def serving(directory: Path | None = None, *, models: Sequence[str] = (TINY,), **more: Any) -> Generator[Served]:
    """A server on a free port of loopback; killed at the end unless it has ended."""
    settings = {"base_model": models[0], "base_models": models[1:], **more}
    if directory is not None:
        settings["directory"] = str(directory)
    command = [sys.executable, "-c", _PROGRAM, msgspec.json.encode(settings).decode()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on http://127.0.0.1:"), (line, process.poll())
            yield Served(line.removeprefix("listening on ").strip(), process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait(10)
