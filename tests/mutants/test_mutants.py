"""The list of planted bugs is in step with the code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.run import Mutant, load_mutants

ROOT = Path(__file__).resolve().parents[2]


def all_mutants() -> list[Mutant]:
    return [mutant for group in load_mutants().values() for mutant in group]


def test_every_planted_bug_still_has_its_place_and_its_test() -> None:
    known: set[str] = set()
    for file in {mutant.test.partition("::")[0] for mutant in all_mutants()}:
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        known |= {
            f"{file}::{node.name}" for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
    assert {mutant.test.partition("[")[0] for mutant in all_mutants()} - known == set()


@pytest.mark.ci
def test_the_cases_that_planted_bugs_name_are_collected() -> None:
    files = sorted({mutant.test.partition("::")[0] for mutant in all_mutants()})
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", *files],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    known = {line.partition("[")[0] for line in listed}
    assert {mutant.test for mutant in all_mutants()} - known - set(listed) == set()
