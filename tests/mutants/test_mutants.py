"""The list of planted bugs is in step with the code."""

import subprocess
import sys
from pathlib import Path

from tests.mutants.run import load_mutants

ROOT = Path(__file__).resolve().parents[2]


def test_every_planted_bug_still_has_its_place_and_its_test():
    mutants = [mutant for group in load_mutants().values() for mutant in group]
    files = sorted({mutant.test.partition("::")[0] for mutant in mutants})

    assert all((ROOT / file).is_file() for file in files), files
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", *files],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    known = {line.partition("[")[0] for line in listed}
    missing = {m.test for m in mutants} - known - set(listed)
    assert not missing
