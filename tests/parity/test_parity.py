"""The parity tables are sound, and the check behind them can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parity.rows import ROWS, STATEMENTS, exists, read_others, read_rows, read_statements
from tests.parity.run import main
from tests.parity.stubs import stubbed_out


def test_every_claim_of_the_tables_names_a_symbol_and_a_test(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    rows = sum(bool(row.name or row.reason) for row in read_rows())
    assert last == f"rows {rows}/213 statements {len(read_statements())}/665"


def test_each_statement_is_claimed_decided_otherwise_or_open():
    claimed = read_statements()
    decided, left = read_others()
    assert set(claimed) | set(decided) | set(left) == set(range(1, STATEMENTS + 1))
    assert not set(decided) & (set(claimed) | set(left))
    assert all(len(why.split()) > 3 for why in (*decided.values(), *left.values()))


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ("t | `tinker_actors.config:Config` |  | ", "needs a name and a test"),
        ("t | `tinker_actors.config:Config` | `a::b` | BEAM-only", "needs a name and a test"),
        ("t | `os:getcwd` | `a::b` | ", "no module:symbol"),
        ("t |  |  | too much work", "none of the reasons"),
    ],
)
def test_a_row_that_claims_too_much_is_refused(cells: str, words: str, tmp_path: Path):
    table = tmp_path / "parity.md"
    others = "\n".join(f"| {number} | t |  |  |  |" for number in range(2, ROWS + 1))
    table.write_text(f"| 1 | {cells} |\n{others}\n")
    with pytest.raises(ValueError, match=words):
        read_rows(table)


def test_more_than_a_tenth_of_excuses_is_refused(tmp_path: Path):
    table = tmp_path / "parity.md"
    table.write_text("\n".join(f"| {n} | t |  |  | {'BEAM-only' if n < 23 else ''} |" for n in range(1, ROWS + 1)))
    with pytest.raises(ValueError, match="more than a tenth"):
        read_rows(table)


def test_a_test_must_be_a_function_of_its_file():
    assert exists("parity/test_parity.py::test_a_test_must_be_a_function_of_its_file")
    assert not exists("parity/test_parity.py::test_a_test")
    assert not exists("parity/no_such.py::test_x")


@pytest.mark.parametrize(
    ("name", "test", "fails"),
    [
        ("tinker_actors.config.retry:PollBackoff", "config/test_fields.py::test_ways_to_wait_between_polls", True),
        ("tinker_actors.wire.urls:segment", "config/test_fields.py::test_proxies", False),
    ],
)
def test_a_test_that_does_not_need_its_symbol_is_noticed(name: str, test: str, fails: bool):
    assert stubbed_out(name, test) is fails
