"""pytest tests/interop --server-url URL --server-key KEY [--server-model NAME]: our client against any server.

Without a URL a local server of our own is started for each test, as it is and as servers before SDK 0.25 are.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.verdicts import print_table, verdicts

TABLE = "interop"
REASONS = "interop reasons"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("interop", "our client against a server")
    group.addoption("--server-url", help="base URL of the server; without it, local servers on loopback")
    group.addoption("--server-key", help="API key for it (default: TINKER_API_KEY)")
    group.addoption("--server-model", help="base model to train (default: the first that the server offers)")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table: operation by server."""
    cells = verdicts(terminalreporter, TABLE)
    columns = sorted({column for row in cells.values() for column in row})
    print_table(terminalreporter, "our client, operation by operation", cells, columns)
    if cells:
        for name, row in sorted(verdicts(terminalreporter, REASONS).items()):
            for reason in row.values():
                terminalreporter.line(f"{name}: {reason}")
        came_to = [verdict.partition(" (")[0] for row in cells.values() for verdict in row.values()]
        counts = ", ".join(f"{came_to.count(verdict)} {verdict}" for verdict in sorted(set(came_to)))
        terminalreporter.line(counts)
