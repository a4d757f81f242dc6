"""Every guarantee names a test that exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"`([a-z_/]+\.py)::(\w+)`")


@pytest.mark.parametrize("page", ["docs/guarantees.md", "supervision/SEMANTICS.md"])
def test_the_tests_that_a_page_names_exist(page: str):
    named = NAMED.findall((ROOT / page).read_text("utf-8"))

    assert len(named) > 20
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not re.search(rf"^(async )?def {test}\(", (ROOT / "tests" / file).read_text("utf-8"), re.MULTILINE)
    ]
    assert not missing
