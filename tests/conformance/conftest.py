"""The official SDKs, each in an environment of its own, and the table of what each call came to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.conformance.expectation import VERSIONS
from tests.local.process import KEY, TINY, serving
from tests.verdicts import note, print_table, verdicts

pytest.register_assert_rewrite("tests.conformance.expectations")

_ROOT = Path(__file__).parents[2]
_BASE = "tinker-actors/base-s"
_VERDICT = "conformance"


def python_of(version: str) -> Path:
    """The interpreter of the environment that has this SDK."""
    if version == VERSIONS[0]:
        return Path(sys.executable)
    found = Path(sys.prefix).parent / ".conformance" / version / "bin" / "python"  # beside this very environment
    assert found.exists(), f"there is no environment with tinker {version}: `make sdks` builds it"
    return found


def fill_cache(hub: Path) -> None:
    """Both models' tokenizer in the Hugging Face hub's cache, where the SDKs look for it."""
    packaged = _ROOT / "tinker_actors" / "local" / "base" / "tokenizer.json"
    for name in (TINY, _BASE):
        repository = hub / "hub" / f"models--{name.replace('/', '--')}"
        snapshot = repository / "snapshots" / "packaged"
        snapshot.mkdir(parents=True)
        shutil.copy(packaged, snapshot)
        (snapshot / "config.json").write_text('{"model_type": "llama"}')
        (snapshot / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("packaged")


@pytest.fixture(scope="session")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the program for every call prints, by the SDK's version and more settings of the server."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    @cache
    def drive(version: str, **more: Any) -> dict[str, Any]:
        printed = shared / f"sdk-{version}{'-' if more else ''}{'-'.join(more)}.json"
        with FileLock(f"{printed}.lock"):  # the program is run once for all workers
            if not printed.exists():
                printed.write_text(_run(version, tmp_path_factory.mktemp("sdk"), more))
        return json.loads(printed.read_text())

    return drive


def _run(version: str, folder: Path, more: dict[str, Any]) -> str:
    fill_cache(folder / "cache")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TINKER_", "HF_"))}
    environ = {**kept, "PYTHONPATH": str(_ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    command = [python_of(version), "-W", "ignore", "-m", "tests.conformance.programs.every_call"]
    with serving(models=(TINY, _BASE), fwdbwd_max_chunk_len=2, pjwt_auth_enabled=True, **more) as server:
        done = subprocess.run(
            [*command, server.url, KEY, TINY, str(folder)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=environ,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture
def verdict(request: pytest.FixtureRequest) -> Any:
    """Notes what a call came to, for the table."""
    return lambda call, version, came_to: note(request.node, _VERDICT, call, version, came_to)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table: call by SDK."""
    cells = verdicts(terminalreporter, _VERDICT)
    print_table(terminalreporter, "official SDKs against the local server", cells, VERSIONS)
