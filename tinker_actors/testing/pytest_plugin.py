"""pytest fixtures that every test has where this package is installed: a local server for each test that asks.

Light: what a server needs is imported by the first test that uses one.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tinker_actors.local import ServerSettings
    from tinker_actors.testing.local_server import LocalServer

__all__ = ["tinker_server", "tinker_server_settings"]


@pytest.fixture
def tinker_server_settings() -> ServerSettings | None:
    """What ``tinker_server`` offers: define a fixture of this name for other ServerSettings. None: the defaults."""
    return None


@pytest.fixture
def tinker_server(tinker_server_settings: ServerSettings | None) -> Generator[LocalServer]:
    """A Tinker-compatible server on loopback, with ``url`` and ``key``, new and empty for this test.

    It runs in a thread of its own, so that plain, trio and asyncio tests can use it, and has ended when the test has.
    """
    from tinker_actors.testing.local_server import local_server_thread

    with local_server_thread(tinker_server_settings) as server:
        yield server
