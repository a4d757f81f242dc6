"""See tests fail without the symbols that they are named for: each in a process of its own, forked from one that has
the libraries loaded, several at a time.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

__all__ = ["Claim", "see", "stubbed_out"]

Claim: TypeAlias = tuple[str, str]  # module:symbol, and file::test below tests/

_TIMEOUT = 120.0  # seconds for one test without its symbol
# nothing of tinker_actors: a stub has to be in place before the module that it replaces is imported
_LIBRARIES = ["numpy", "trio", "httpx", "h11", "msgspec", "tokenizers", "safetensors.numpy", "starlette.applications"]
_LIBRARIES += ["hypercorn.trio", "hypothesis", "pytest_trio", "pytest", "_pytest.main", "supervision.testing"]


def see(claims: Iterable[Claim], jobs: int | None = None) -> Iterator[tuple[Claim, bool]]:
    """Each claim, in the order given, with whether its test fails for the sake of its stub."""
    wanted = list(claims)
    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        yield from zip(wanted, pool.map(lambda claim: stubbed_out(*claim), wanted), strict=True)


def stubbed_out(name: str, test: str) -> bool:
    """Whether ``test`` fails, for the stub's sake, when the symbol ``name`` is stubbed out."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LIBRARIES)
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        process = context.Process(target=_run, args=(name, test, str(said)))
        process.start()
        process.join(_TIMEOUT)
        if process.exitcode is None:
            process.kill()
            process.join()
        failed = process.exitcode not in (0, None)
        process.close()
        # a class may be needed as soon as its tests are collected, which ends the run otherwise than a failure does
        return failed and f"Stubbed: {name}" in said.read_text("utf-8", "replace")


def _run(name: str, test: str, said: str) -> None:
    os.environ.update(PARITY_STUB=name, HYPOTHESIS_PROFILE="mutants")
    os.setsid()
    out = os.open(said, os.O_WRONLY | os.O_CREAT)
    os.dup2(out, 1)
    os.dup2(out, 2)
    import pytest

    loaded = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
    sys.exit(pytest.main(["-x", "-q", "-W", loaded, "-p", "tests.parity.stub", f"tests/{test}"]))
