"""The parity tables as values: docs/parity.md, a row for each line of the original's checklist, and
docs/parity-statements.md, a line for each statement of its tests that is proved here.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

__all__ = [
    "ROOT",
    "ROWS",
    "STATEMENTS",
    "Row",
    "exists",
    "named_tests",
    "read_others",
    "read_rows",
    "read_statements",
]

ROOT = Path(__file__).resolve().parents[2]
ROWS = 213
STATEMENTS = 665
_REASONS = re.compile(r"BEAM-only|superseded by `[\w.:]+`|process row: gate [\w ]+")
_LINE = re.compile(r"- ([\d, ]+): (.+)")
_TEST = re.compile(r"`([\w/.]+::\w+)`")
_TESTS = re.compile(r"`[\w/.]+::\w+`(?:, `[\w/.]+::\w+`)*")
_NAME = re.compile(r"tinker_actors(?:\.\w+)*:\w+(?:\.\w+)*")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line: ``name`` is module:symbol, ``test`` file::test below tests/; both empty where nothing is built."""

    number: int
    title: str
    name: str = ""
    test: str = ""
    reason: str = ""


def read_rows(path: Path = ROOT / "docs" / "parity.md") -> tuple[Row, ...]:
    """Every row. Raises ValueError for a table that is not as it should be."""
    rows: list[Row] = []
    for line in path.read_text("utf-8").splitlines():
        if not re.match(r"\| \d", line):
            continue
        number, title, name, test, reason = (cell.strip().strip("`") for cell in line.strip("|\n").split(" | "))
        rows.append(
            Row(number=int(number.strip("| ")), title=title, name=name, test=test, reason=_plain(line, reason))
        )
    if [row.number for row in rows] != list(range(1, ROWS + 1)):
        raise ValueError(f"{path.name}: {len(rows)} rows that are not numbered 1 to {ROWS}")
    for row in rows:
        if bool(row.name) != bool(row.test) or (row.name and row.reason):
            raise ValueError(f"row {row.number} needs a name and a test, or a reason, or nothing")
        if row.name and not _NAME.fullmatch(row.name):
            raise ValueError(f"row {row.number}: {row.name!r} is no module:symbol of tinker_actors")
        if row.reason and not _REASONS.fullmatch(row.reason):
            raise ValueError(f"row {row.number}: {row.reason!r} is none of the reasons that count")
    excused = sum(bool(row.reason) for row in rows)
    if excused * 10 > ROWS:
        raise ValueError(f"{excused} rows are excused by a reason: more than a tenth")
    return tuple(rows)


def _plain(line: str, reason: str) -> str:
    # a reason may end in a name in backquotes
    return f"{reason}`" if line.rstrip("| \n").endswith("`") and reason.count("`") == 1 else reason


def read_statements(path: Path = ROOT / "docs" / "parity-statements.md") -> dict[int, tuple[str, ...]]:
    """The tests of each statement that has one. Raises ValueError for numbers out of range or given twice."""
    found: dict[int, tuple[str, ...]] = {}
    for numbers, rest in _sections(path)[0]:
        if not _TESTS.fullmatch(rest):
            raise ValueError(f"{rest!r} is no `file::test`")
        for number in numbers:
            if number in found or not 1 <= number <= STATEMENTS:
                raise ValueError(f"statement {number} is given twice, or is none of 1 to {STATEMENTS}")
            found[number] = named_tests(rest)
    return found


def read_others(
    path: Path = ROOT / "docs" / "parity-statements.md",
) -> tuple[dict[int, str], dict[int, str]]:
    """Why each other statement is decided otherwise, and why each of the rest is open."""
    _, decided, left = _sections(path)
    return _by_number(decided), _by_number(left)


def _by_number(section: list[tuple[list[int], str]]) -> dict[int, str]:
    return {number: rest for numbers, rest in section for number in numbers}


def named_tests(text: str) -> tuple[str, ...]:
    """The tests that ``text`` names."""
    return tuple(_TEST.findall(text))


def _sections(path: Path) -> tuple[list[tuple[list[int], str]], ...]:
    found: tuple[list[tuple[list[int], str]], ...] = ([], [], [])
    current = found[0]
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("## "):
            current = found[("## Decided otherwise", "## Open").index(line) + 1]
        elif match := _LINE.fullmatch(line):
            current.append(([int(number) for number in match[1].split(",")], match[2]))
    return found


def exists(test: str, root: Path = ROOT) -> bool:
    """Whether ``file::test`` below tests/ names a test function."""
    file, _, name = test.partition("::")
    path = root / "tests" / file
    return (
        path.is_file()
        and re.search(rf"^(?:async )?def {re.escape(name)}\(", path.read_text("utf-8"), re.MULTILINE) is not None
    )
