"""A process that is killed in the middle of a download leaves nothing under the final name, and the next goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.cli.processes import environment
from tests.downloads.store import EXTERNAL, KEY, TARGET, WEIGHTS, Fault, fetch, open_store
from tests.downloads.test_downloads import ARCHIVE, FILES, contents, listed
from tinker_actors.types import TinkerPath

PROGRAM = """
import random, sys, trio
from tinker_actors.config import Config
from tinker_actors.downloads import download_checkpoint
from tinker_actors.ports import ThreadOffload
from tinker_actors.wire.api import Api
from tinker_actors.wire.transport import HttpTransport
url, key, path, folder, way, external = sys.argv[1:]
def progress(now):
    if now.received > 1_000_000:
        print("begun", flush=True)
async def export(path):
    return external
async def main():
    api = Api(HttpTransport(), Config.load(api_key=key, base_url=url, environ={}))
    await download_checkpoint(
        api, path, folder, force=True, progress=progress, offload=ThreadOffload(), rng=random.Random(1),
        way=way, export=export,
    )
trio.run(main)
"""


@pytest.mark.process
@pytest.mark.parametrize("way", ["archive", "files"])
async def test_a_killed_download_is_continued(way: str, tmp_path: Path):
    async def no_export(path: TinkerPath) -> str:
        raise AssertionError(f"external weights of {path} are there already")

    async with open_store() as store:
        store.files["archive"] = ARCHIVE
        old = contents((await fetch(store, tmp_path)).destination)
        if way == "files":
            store.files = dict(FILES)
        broken = Fault(cut=1_500_000, stall=True)
        store.faults = [broken] if way == "archive" else [Fault(), broken]
        url = f"http://127.0.0.1:{store.api_port}"
        command = [sys.executable, "-c", PROGRAM, url, KEY, WEIGHTS, str(tmp_path), way, EXTERNAL]
        process = await trio.lowlevel.open_process(command, env=environment(), stdout=subprocess.PIPE)
        assert process.stdout is not None
        with trio.fail_after(60):
            assert b"begun" in await process.stdout.receive_some()
        process.kill()
        await process.wait()
        await process.stdout.aclose()
        assert listed(tmp_path) == [f".{TARGET}.partial", TARGET]
        assert contents(tmp_path / TARGET) == old == FILES
        store.asked.clear()
        await fetch(store, tmp_path, force=True, way=way, export=no_export)
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in store.ranges_asked() if asked is not None]
    assert max(starts) > 1_000_000
    assert len(starts) == (1 if way == "archive" else 2)  # of the file that was whole, its last byte
    assert listed(tmp_path) == [TARGET]
    assert contents(tmp_path / TARGET) == FILES
