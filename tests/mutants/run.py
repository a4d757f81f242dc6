"""Plant known bugs one by one and see each noticed: ``python -m tests.mutants.run [NAME ...]``.

Each ``*.toml`` here is a list of small edits: ``file``, ``old`` (found exactly once in it), ``new``, ``test`` (the
pytest id that must notice) and ``about``. Every edit is made in a copy of the project, never in the project itself.
The unmutated copy must pass the same tests first. A mutant counts as caught only when its test runs and fails: a test
that can't be collected, that hangs or that passes is a failure of this job.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

__all__ = ["Mutant", "load_mutants", "main"]

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
COPIED = ("supervision", "tinker_actors", "tests", "benchmarks", "examples", "recipes", "docs", "pyproject.toml")
_SEED = re.compile(r"seed (\d+) breaks a promise")
TIMEOUT = 600.0  # seconds for one test run: a mutant that hangs is not caught by an assertion


class Mutant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One planted bug and the test that must notice it."""

    file: str
    old: str
    new: str
    test: str
    about: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mutant: tuple[Mutant, ...]


def load_mutants(names: Sequence[str] = ()) -> dict[str, tuple[Mutant, ...]]:
    """The mutants by the stem of their file; with ``names``, of those files only. Raises ValueError for bad ones."""
    found: dict[str, tuple[Mutant, ...]] = {}
    for path in sorted(HERE.glob("*.toml")):
        if names and path.stem not in names:
            continue
        mutants = msgspec.convert(tomllib.loads(path.read_text("utf-8")), _File).mutant
        for mutant in mutants:
            count = (ROOT / mutant.file).read_text("utf-8").count(mutant.old)
            if count != 1:
                raise ValueError(f"{path.name}: {mutant.about!r}: its old text stands {count} times in {mutant.file}")
        found[path.stem] = mutants
    missing = set(names) - set(found)
    if missing:
        raise ValueError(f"no such file of mutants: {', '.join(sorted(missing))}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run them; 0 when every one was caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="stems of files in tests/mutants; default: all")
    mutants = load_mutants(parser.parse_args(argv).names)
    tests = sorted({mutant.test for group in mutants.values() for mutant in group})
    caught = total = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy2(source, copy / name)
        status, output = _pytest(copy, tests)
        if status != 0:
            print(output)
            print("the unmutated project fails: nothing was planted")
            return 1
        for group, members in mutants.items():
            for mutant in members:
                total += 1
                verdict, seed = _plant(copy, mutant)
                caught += verdict == "caught"
                within = "" if seed is None else f", by seed {seed}"
                print(f"{verdict:<10} {group}: {mutant.about} ({mutant.test}{within})", flush=True)
    print(f"mutants caught {caught}/{total}")
    return 0 if caught == total else 1


def _plant(copy: Path, mutant: Mutant) -> tuple[str, int | None]:
    """The verdict and, of a simulation, the first seed that has shown it: seeds are tried from 0 on."""
    path = copy / mutant.file
    text = path.read_text("utf-8")
    path.write_text(text.replace(mutant.old, mutant.new), "utf-8")
    try:
        status, output = _pytest(copy, [mutant.test])
    except subprocess.TimeoutExpired:
        return "HUNG", None
    finally:
        path.write_text(text, "utf-8")
    if status == 0:
        return "MISSED", None
    found = _SEED.search(output)
    seed = None if found is None else int(found[1])
    return "caught" if status == 1 and "ERROR collecting" not in output else "BROKE", seed


def _pytest(copy: Path, tests: Sequence[str]) -> tuple[int, str]:
    # the copy comes first on the path of `python -m`, before the installed project
    command = [sys.executable, "-m", "pytest", "-x", "-q", *tests]
    process = subprocess.Popen(
        command,
        cwd=copy,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": "mutants"},
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
        return process.returncode, output
    finally:  # a mutant that hangs may do so in a process of the test's
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
