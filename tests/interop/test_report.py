"""The report on a server that does most, refuses some, and is broken here and there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from tinker_actors import ServerSettings
from tinker_actors.local.server import open_server

pytestmark = pytest.mark.process

_ROOT = Path(__file__).parents[2]
_CHOSEN = "get_info or list_training_runs or list_sessions or get_session or (unknown and base)"


def _lesser(app: Any) -> Any:
    """``app`` without training runs, and with sessions that nobody can read."""

    async def lesser(scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        if path.endswith("/training_runs"):
            scope = {**scope, "path": "/nowhere"}
        if not path.endswith("/api/v1/sessions"):
            await app(scope, receive, send)
            return
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
        )
        await send({"type": "http.response.body", "body": b'{"sessions": 7}'})

    return lesser


async def test_each_operation_is_told_as_works_refused_or_fails() -> None:
    settings = ServerSettings(base_model="tinker-actors/tiny", api_keys=("tml-report",))
    async with open_server(settings, around=_lesser) as server:
        command = [sys.executable, "-m", "pytest", "-q", "-n0", "tests/interop/test_interop.py", "-k", _CHOSEN]
        done = await trio.run_process(
            [*command, "--server-url", server.url, "--server-key", "tml-report"],
            cwd=_ROOT,
            check=False,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
        )
    text = done.stdout.decode()
    table = text.partition("our client, operation by operation")[2]
    found = {name: verdict.strip() for name, _, verdict in (row.partition("  ") for row in table.splitlines())}
    assert found["TrainingClient.get_info"] == found["RestClient.get_session_async"] == "works", text
    assert found["refused: an unknown base model"] == "works"
    assert found["RestClient.list_training_runs"] == "refused by server (404)"
    assert found["RestClient.list_sessions"] == "fails"
    assert "RestClient.list_training_runs: GET /api/v1/training_runs: HTTP 404" in table
    assert "2 fails, 2 refused by server, " in table
    assert done.returncode == 1
    assert "tml-report" not in text
