"""Every guarantee names a test that exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"`([a-z_/]+\.py)::(\w+)`")


@pytest.mark.parametrize("page", ["docs/guarantees.md", "docs/weaknesses.md", "supervision/SEMANTICS.md"])
def test_the_tests_that_a_page_names_exist(page: str):
    named = NAMED.findall((ROOT / page).read_text("utf-8"))

    assert len(named) > 20
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not re.search(rf"^(async )?def {test}\(", (ROOT / "tests" / file).read_text("utf-8"), re.MULTILINE)
    ]
    assert not missing


def test_each_weakness_of_the_original_has_its_row_and_its_test():
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", (ROOT / "docs" / "weaknesses.md").read_text("utf-8"), re.MULTILINE)

    assert [int(number) for number, _ in rows] == list(range(1, 31))
    assert not [number for number, row in rows if not NAMED.search(row)]
