"""Client and server as processes that are killed, frozen and asked to end at seeded moments, until the job is done.

``python -m tests.processes.cycles [COUNT] [--seed N]`` runs COUNT such cycles beside an undisturbed run, prints a
line for each, and last ``cycles N, signals M, lives L, failures F``; its exit code is 1 if any failed.
"""

from __future__ import annotations

import argparse
import math
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import msgspec
import numpy as np
from safetensors.numpy import load_file

from tests.local.process import KEY, TINY
from tests.processes.names import JOB

__all__ = ["Cycle", "cycle", "main", "undisturbed"]

STEPS = 40
LONGEST = 240.0  # seconds for one cycle
_ROOT = Path(__file__).parents[2]
_SIGNALS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)
_TARGETS = ("client", "server", "both")


class Cycle(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has come to: its final weights and optimizer, its metrics file, and what happened to it."""

    arrays: dict[str, bytes]
    metrics: bytes
    happened: tuple[str, ...]
    lives: int


@final
class Server:
    """One server over several processes, at one port and with one directory."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "server"
        self._log = (folder / "server.log").open("ab")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tinker_actors.cli", "serve", "--port", str(self.port)]
        command += ["--directory", str(self.directory), "--base-model", TINY, "--api-key", KEY]
        process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=self._log)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(b"listening on"), (line, process.poll())
        return process

    def renew(self) -> None:
        """Start it again, if it has ended or is ending."""
        self.process.wait(60)
        _end(self.process)
        self.process = self._start()

    def close(self) -> None:
        """Kill it."""
        _end(self.process)
        self._log.close()


@final
class Client:
    """One program over several processes."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder / "jobs"
        self._url = url
        self._log = (folder / "client.log").open("ab")
        self.lives = 0
        self._path: str | None = None
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.lives += 1
        command = [sys.executable, "-m", "tests.processes.job_program", self._url, str(self.folder), str(STEPS)]
        return subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=self._log)

    def done(self) -> str | None:
        """The final checkpoint's path; None while there is none. Starts the program again when it has ended."""
        if self._path is not None or self.process.poll() is None:
            return self._path
        assert self.process.stdout is not None
        lines = self.process.stdout.read().decode().splitlines()
        if self.process.returncode == 0 and lines and lines[-1] != "stopped":
            self._path = lines[-1]
            return self._path
        codes = (0, -signal.SIGKILL, -signal.SIGTERM)
        assert self.process.returncode in codes, f"the program failed with {self.process.returncode}"
        _end(self.process)
        self.process = self._start()
        return None

    def rows(self) -> int:
        """How many are in the metrics file."""
        file = self.folder / JOB / "metrics.jsonl"
        return file.read_bytes().count(b"\n") if file.exists() else 0

    def close(self) -> None:
        """Kill it."""
        _end(self.process)
        self._log.close()


def undisturbed(folder: Path) -> Cycle:
    """The run that nothing happens to."""
    with _both(folder) as (server, client):
        return _finish(server, client, (), time.monotonic() + LONGEST)


def cycle(folder: Path, seed: int) -> Cycle:
    """A run to which ``seed`` says what happens, and when. Raises AssertionError when it does not end."""
    rng, ends = random.Random(seed), time.monotonic() + LONGEST
    happened: list[str] = []
    began = time.monotonic()
    with _both(folder) as (server, client):
        # by rows, so that a busy machine is hit where an idle one is; those that are there already hit the next start
        for row in sorted(rng.randrange(STEPS) for _ in range(rng.randint(2, 4))):
            number, target, delay = rng.choice(_SIGNALS), rng.choice(_TARGETS), rng.uniform(0.0, 0.5)
            frozen, apart = rng.uniform(0.1, 1.5), rng.uniform(0.0, 0.3)
            if _is_done_before(client, row, delay):
                break
            happened.append(f"{time.monotonic() - began:.2f} s, row {client.rows()}: {number.name} to {target}")
            hit = [one.process for name, one in (("client", client), ("server", server)) if target in (name, "both")]
            for process in hit:
                process.send_signal(number)
                time.sleep(apart / len(hit))
            if number is signal.SIGSTOP:
                time.sleep(frozen)
                for process in reversed(hit):
                    process.send_signal(signal.SIGCONT)
            elif server.process in hit:
                server.renew()
        return _finish(server, client, tuple(happened), ends)


def _is_done_before(client: Client, row: int, delay: float) -> bool:
    """Let it work until there are so many rows, and for ``delay`` seconds more."""
    until = math.inf
    while client.done() is None:
        if until == math.inf and client.rows() >= row:
            until = time.monotonic() + delay
        if time.monotonic() >= until:
            return False
        time.sleep(0.01)
    return True


def _finish(server: Server, client: Client, happened: tuple[str, ...], ends: float) -> Cycle:
    while (path := client.done()) is None:
        assert time.monotonic() < ends, f"not done after {LONGEST:g} s: {happened}"
        time.sleep(0.05)
    run, _, name = path.removeprefix("tinker://").split("/")
    (file,) = (server.directory / "checkpoints" / run.replace(":", "_") / "weights").glob(f"{name}.*.safetensors")
    loaded: dict[str, Any] = load_file(file)
    arrays = {key: np.asarray(value).tobytes() for key, value in loaded.items()}
    metrics = (client.folder / JOB / "metrics.jsonl").read_bytes()
    return Cycle(arrays=arrays, metrics=metrics, happened=happened, lives=client.lives)


@contextmanager
def _both(folder: Path) -> Generator[tuple[Server, Client]]:
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(folder)
    try:
        client = Client(folder, server.url)
        try:
            yield server, client
        except BaseException as error:
            error.add_note((folder / "client.log").read_text("utf-8")[-3000:])
            raise
        finally:
            client.close()
    finally:
        server.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait(30)
    if process.stdout is not None:
        process.stdout.close()


def problems_of(found: Cycle, calm: Cycle) -> list[str]:
    """In words how ``found`` differs from the undisturbed run."""
    problems: list[str] = []
    if found.arrays.keys() != calm.arrays.keys():
        problems.append("it saved other arrays")
    elif found.arrays != calm.arrays:
        problems.append("its weights or its optimizer's state differ")
    if found.metrics != calm.metrics:
        problems.append("its metrics file differs")
    return problems


def main(argv: list[str] | None = None) -> int:
    """Run the cycles; 0 when all of them came to the weights and the metrics file of the undisturbed run."""
    parser = argparse.ArgumentParser(prog="python -m tests.processes.cycles", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=50, help="how many (default 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the first; the next ones count up (default 0)")
    options = parser.parse_args(argv)
    failures = signals = lives = 0
    with tempfile.TemporaryDirectory() as folder:
        calm = undisturbed(Path(folder, "calm"))
        for seed in range(options.seed, options.seed + options.count):
            began = time.monotonic()
            try:
                found = cycle(Path(folder, str(seed)), seed)
                problems = problems_of(found, calm)
                signals += len(found.happened)
                lives += found.lives
                told = "; ".join(found.happened)
            except AssertionError as error:
                problems, told = [str(error)], "\n".join(getattr(error, "__notes__", ()))
            failures += bool(problems)
            verdict = "FAILED: " + ", ".join(problems) if problems else "the same"
            print(f"seed {seed}: {verdict} after {time.monotonic() - began:.1f} s ({told})", flush=True)
    print(f"cycles {options.count}, signals {signals}, lives {lives}, failures {failures}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
