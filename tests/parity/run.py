"""Count what the parity tables claim: ``python -m tests.parity.run`` (``make parity``).

A row counts when its name can be found and its test exists, or by a reason of the closed set; a statement when its
test exists. With ``--stubs`` each named symbol is stubbed out and its test must then fail, or the row doesn't count:
part of ``make mutants``; on two cores 110 rows take three minutes. What was seen to fail is
kept in ``runs/parity.json`` under the digest of the sources, so that an interrupted run goes on where it was. Prints,
last, ``rows N/213 statements M/665``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pkgutil
import sys
from collections.abc import Sequence

from tests.parity.rows import (
    ROOT,
    ROWS,
    STATEMENTS,
    Row,
    exists,
    named_tests,
    read_others,
    read_rows,
    read_statements,
)
from tests.parity.stubs import Claim, see

__all__ = ["main"]

_STATE = ROOT / "runs" / "parity.json"


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every claim holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity.run", description=__doc__)
    parser.add_argument("--stubs", action="store_true", help="see each named test fail without its symbol")
    stubs = parser.parse_args(argv).stubs
    wrong: list[str] = []
    table = read_rows()
    problems = {row.number: _problem(row) for row in table}
    unseen = _unseen([row for row in table if problems[row.number] is None]) if stubs else {}
    rows = 0
    for row in table:
        problem = problems[row.number] or unseen.get((row.name, row.test))
        if problem is not None:
            wrong.append(f"row {row.number} ({row.title}): {problem}")
        elif row.name or row.reason:
            rows += 1
    statements = 0
    claimed = read_statements()
    for number, tests in sorted(claimed.items()):
        missing = [test for test in tests if not exists(test)]
        statements += not missing
        wrong += [f"statement {number}: there is no test {test}" for test in missing]
    decided, left = read_others()
    for number, why in sorted(decided.items()):
        wrong += [f"statement {number}: there is no test {test}" for test in named_tests(why) if not exists(test)]
    left = {number: why for number, why in left.items() if number not in claimed}
    print(f"statements decided otherwise {len(decided)}, open {len(left)}")
    for line in wrong:
        print(line)
    print(f"rows {rows}/{ROWS} statements {statements}/{STATEMENTS}")
    return 1 if wrong else 0


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


def _unseen(rows: Sequence[Row]) -> dict[Claim, str]:
    """What the tests of ``rows`` do wrong without their symbols."""
    digest = _digest()
    state: dict[str, str] = json.loads(_STATE.read_text("utf-8")) if _STATE.exists() else {}
    claims = [(row.name, row.test) for row in rows if row.name]
    problems: dict[Claim, str] = {}
    for (name, test), seen in see(claim for claim in dict.fromkeys(claims) if state.get(" ".join(claim)) != digest):
        print(f"{'fails' if seen else 'PASSES'}  without {name}: {test}", flush=True)
        if not seen:
            problems[name, test] = f"{test} does not fail without {name}"
            continue
        state[f"{name} {test}"] = digest
        _STATE.parent.mkdir(exist_ok=True)
        scratch = _STATE.with_suffix(".part")
        scratch.write_text(json.dumps(state, indent=1, sort_keys=True), "utf-8")
        scratch.replace(_STATE)
    return problems


def _digest() -> str:
    digest = hashlib.sha256()
    for folder in ("supervision", "tinker_actors", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
