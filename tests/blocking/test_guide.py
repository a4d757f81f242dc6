"""The code of docs/plain-python.md runs as it stands there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import tinker_actors as ta
from tests.blocking.cells import Notebook
from tests.blocking.programs import PROMPT, batch, engines
from tests.blocking.served import Served, served
from tinker_actors.local import ServerSettings

PAGE = Path(__file__).parents[2] / "docs" / "plain-python.md"
BLOCKS: list[str] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Generator[Served]:
    with served(ServerSettings()) as server:
        monkeypatch.setenv("TINKER_BASE_URL", server.url)
        monkeypatch.setenv("TINKER_API_KEY", server.key)
        yield server


def _block(begin: str) -> str:
    (found,) = [block for block in BLOCKS if block.startswith(begin)]
    return found


def test_the_script(server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"batch": batch(1, 2)}
    exec(_block("import tinker_actors as ta").replace("base_url=..., api_key=...", ""), names)
    assert names["path"].startswith("tinker://")
    assert "grad_norm:mean" in capsys.readouterr().out
    assert engines() == []


def test_the_asyncio_program(server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    with ta.blocking_runtime() as runtime:
        sampler = runtime.create_service_client().create_sampling_client(base_model="tinker-actors/base-s")
        names: dict[str, Any] = {
            "ta": ta,
            "asyncio": asyncio,
            "batch": batch(1),
            "sampler": sampler,
            "prompts": [PROMPT] * 2,
        }
        exec(_block("async def main"), names)
        asyncio.run(names["main"]())
    assert "loss:sum" in capsys.readouterr().out


def test_the_notebook(server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    begin = next(index for index, block in enumerate(BLOCKS) if block.startswith("runtime = ta.blocking_runtime()"))
    Notebook(ta=ta, batch=batch(1)).run(*BLOCKS[begin : begin + 4])
    assert engines() == []
    assert "(success)" in str(server.ends()[0])


@pytest.mark.parametrize("block", BLOCKS)
def test_each_block_is_python(block: str) -> None:
    compile(block, "guide", "exec")
