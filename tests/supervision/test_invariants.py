"""INVARIANTS.md is true: its tests exist and try enough, and its planted bugs are planted against them."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import supervision
from tests.mutants.run import load_mutants
from tests.supervision.world import ENOUGH

PAGE = Path(supervision.__file__).parent / "INVARIANTS.md"
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in PAGE.read_text("utf-8").splitlines()
    if re.match(r"\| \d+ \|", line)
]
LAST = 30


def test_every_invariant_has_its_row() -> None:
    assert [row[0] for row in ROWS] == [str(number) for number in range(1, LAST + 1)]
    assert all(len(row) == 4 and all(row) for row in ROWS)


def named_in(row: list[str]) -> list[tuple[str, str]]:
    return re.findall(r"`([\w/]+\.py)::(\w+)`", row[2])


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_its_tests_try_enough(row: list[str]) -> None:
    """A directed test may stand beside the property, never alone."""
    tries = 0
    for file, name in named_in(row):
        module = importlib.import_module(f"tests.{file.removesuffix('.py').replace('/', '.')}")
        test: Any = getattr(module, name)
        settings = getattr(test, "_hypothesis_internal_use_settings", None)
        if settings is not None:
            assert settings.max_examples >= ENOUGH
            tries += 1
        elif re.search(r"assert swept\(.*\) >= ENOUGH", inspect.getsource(test)):
            tries += 1
    assert tries


def test_each_planted_bug_is_for_its_test() -> None:
    planted = {mutant.about: mutant.test for group in load_mutants().values() for mutant in group}
    for row in ROWS:
        assert planted[row[3]] in {f"tests/{file}::{name}" for file, name in named_in(row)}, row[3]
