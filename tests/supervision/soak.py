"""Each invariant's property and sweep with 20,000 examples: `make soak-supervision`, half an hour or more.

The last line printed is `properties N, examples M, failures F`; exit code 1 if anything failed.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import final

import pytest

import supervision

PAGE = Path(supervision.__file__).parent / "INVARIANTS.md"


def named_tests() -> list[str]:
    """What INVARIANTS.md names, as pytest takes it."""
    text = PAGE.read_text("utf-8")
    return sorted({f"tests/{file}::{name}" for file, name in re.findall(r"`([\w/]+\.py)::(\w+)`", text)})


@final
class Tally:
    """How much was tried, by test."""

    def __init__(self) -> None:
        self.examples: dict[str, int] = {}
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid.partition("[")[0]
        if report.failed:
            self.failed.add(test)
        if report.when == "teardown":  # when all is known
            self.examples[test] = self.examples.get(test, 0) + examples_of(report)

    @property
    def last_line(self) -> str:
        tried = {test: count for test, count in self.examples.items() if count}  # a single directed case is none
        return f"properties {len(tried)}, examples {sum(tried.values())}, failures {len(self.failed)}"


def examples_of(report: pytest.TestReport) -> int:
    """Of a sweep as it recorded them; of a property as Hypothesis counts them."""
    recorded = [value for name, value in report.user_properties if name == "examples"]
    if recorded:
        return sum(int(str(value)) for value in recorded)
    statistics = str(report.__dict__.get("_hypothesis_stats", ""))
    return sum(
        int(passing) + int(failing) for passing, failing in re.findall(r"(\d+) passing, (\d+) failing", statistics)
    )


def main(arguments: list[str]) -> int:
    os.environ.setdefault("HYPOTHESIS_PROFILE", "soak")
    tally = Tally()
    code = pytest.main(
        ["-q", "--hypothesis-show-statistics", "--show-capture=no", *arguments, *named_tests()], plugins=[tally]
    )
    for test, count in sorted(tally.examples.items()):
        print(f"{count:>9,}  {test.removeprefix('tests/')}{'  FAILED' if test in tally.failed else ''}")
    print(tally.last_line)
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
