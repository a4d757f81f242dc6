"""Count what the parity tables claim: ``python -m tests.parity.run`` (``make parity``).

A row counts when its name can be found and its test exists, or by a reason of the closed set; a statement when its
test exists. With ``--stubs`` each named symbol is stubbed out and its test must then fail, or the row doesn't count:
part of ``make mutants``. What was seen to fail is kept in ``runs/parity.json`` under the digest of the sources, so
that an interrupted run goes on where it was. Prints, last, ``rows N/213 statements M/665``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.parity.rows import ROOT, ROWS, STATEMENTS, Row, exists, read_rows, read_statements

__all__ = ["main", "stubbed_out"]

TIMEOUT = 300.0  # seconds for one test with its symbol stubbed out
_STATE = ROOT / "runs" / "parity.json"


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every claim holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity.run", description=__doc__)
    parser.add_argument("--stubs", action="store_true", help="see each named test fail without its symbol")
    stubs = parser.parse_args(argv).stubs
    wrong: list[str] = []
    rows = 0
    for row in read_rows():
        problem = _problem(row)
        if problem is None and stubs and row.name:
            problem = _stub(row)
        if problem is not None:
            wrong.append(f"row {row.number} ({row.title}): {problem}")
        elif row.name or row.reason:
            rows += 1
    statements = 0
    for number, test in sorted(read_statements().items()):
        if exists(test):
            statements += 1
        else:
            wrong.append(f"statement {number}: there is no test {test}")
    for line in wrong:
        print(line)
    print(f"rows {rows}/{ROWS} statements {statements}/{STATEMENTS}")
    return 1 if wrong else 0


def stubbed_out(name: str, test: str, root: Path = ROOT) -> bool:
    """Whether ``test`` fails, for the stub's sake, when the symbol ``name`` is stubbed out."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "tests.parity.stub", f"tests/{test}"]
    try:
        done = subprocess.run(
            command,
            cwd=root,
            check=False,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            env={**os.environ, "PARITY_STUB": name, "HYPOTHESIS_PROFILE": "mutants"},
        )
    except subprocess.TimeoutExpired:
        return False
    # a class may be needed as soon as its tests are collected, which ends the run otherwise than a failure does
    return done.returncode != 0 and f"Stubbed: {name}" in done.stdout + done.stderr


def _problem(row: Row) -> str | None:
    if not row.name:
        return None
    if not exists(row.test):
        return f"there is no test {row.test}"
    try:
        pkgutil.resolve_name(row.name)
    except (ImportError, AttributeError, ValueError) as error:
        return f"{row.name} can't be found ({error})"
    return None


def _stub(row: Row) -> str | None:
    state: dict[str, str] = json.loads(_STATE.read_text("utf-8")) if _STATE.exists() else {}
    key, digest = f"{row.name} {row.test}", _digest(row)
    if state.get(key) != digest:
        seen = stubbed_out(row.name, row.test)
        print(f"{'fails' if seen else 'PASSES'}  without {row.name}: {row.test}", flush=True)
        if not seen:
            return f"{row.test} does not fail without {row.name}"
        state[key] = digest
        _STATE.parent.mkdir(exist_ok=True)
        scratch = _STATE.with_suffix(".part")
        scratch.write_text(json.dumps(state, indent=1, sort_keys=True), "utf-8")
        scratch.replace(_STATE)
    return None


def _digest(row: Row) -> str:
    module = row.name.partition(":")[0].split(".")
    sources = [ROOT / "tests" / row.test.partition("::")[0], *ROOT.glob("/".join(module[:2]) + "*/**/*.py")]
    sources.extend(ROOT.glob("/".join(module) + ".py"))
    digest = hashlib.sha256()
    for path in sorted(set(sources)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
