"""What operations came to, noted by tests and printed as a table when all have run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

__all__ = ["FAILS", "note", "print_table", "verdicts"]

FAILS = "fails"


def note(item: pytest.Item, table: str, row: str, column: str, verdict: str) -> None:
    """``row`` came to ``verdict`` in ``column`` of ``table``, unless the test fails later on."""
    item.user_properties.append((table, [row, column, verdict]))


def verdicts(terminalreporter: Any, table: str) -> dict[str, dict[str, str]]:
    """All that was noted, by row and column."""
    cells: dict[str, dict[str, str]] = {}
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.getreports(outcome):
            if getattr(report, "when", None) != "call":
                continue
            for name, value in report.user_properties:
                if name == table:
                    row, column, verdict = value
                    cells.setdefault(row, {})[column] = FAILS if outcome == "failed" else verdict
    return cells


def print_table(
    terminalreporter: Any, title: str, cells: dict[str, dict[str, str]], columns: Sequence[str], empty: str = "-"
) -> None:
    """``cells`` by row, under the names of the ``columns``."""
    if not cells:
        return
    width = max(map(len, cells))
    wide = {column: max([len(column), *(len(row.get(column, "")) for row in cells.values())]) for column in columns}

    def line(first: str, row: dict[str, str]) -> str:
        cells_of_row = (f"{row.get(column, empty):{wide[column]}}" for column in columns)
        return "  ".join([f"{first:{width}}", *cells_of_row]).rstrip()

    terminalreporter.section(title)
    terminalreporter.line(line("", {column: column for column in columns}))
    for row in sorted(cells):
        terminalreporter.line(line(row, cells[row]))
