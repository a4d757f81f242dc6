"""The fixture ``tinker_server``, in a pytest run of somebody else's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

import tinker_actors

pytestmark = pytest.mark.process

ROOT = Path(tinker_actors.__file__).parent.parent

SUITE = """
    import asyncio
    import threading

    import httpx
    import pytest
    import trio

    import tinker_actors as ta

    seen = []


    def ask(server):
        seen.append(server.url)
        headers = {"x-api-key": server.key}
        answer = httpx.get(server.url + "/api/v1/get_server_capabilities", headers=headers).json()
        return [model["model_name"] for model in answer["supported_models"]]


    def test_plain(tinker_server):
        assert ask(tinker_server) == ["tinker-actors/base-s"]


    async def sample(server):
        async with ta.open_runtime(server=server) as runtime:
            service = await runtime.create_service_client()
            client = await service.create_sampling_client(base_model="tinker-actors/base-s")
            params = ta.SamplingParams(max_tokens=2, stop=[])
            response = await client.sample(ta.ModelInput.from_ints([1, 2]), 1, params)
            return len(response.sequences[0].tokens)


    async def test_trio(tinker_server):
        assert await sample(tinker_server) == 2


    def test_asyncio(tinker_server):
        async def program():
            async with httpx.AsyncClient(headers={"x-api-key": tinker_server.key}) as client:
                body = {"tags": [], "user_metadata": {}, "sdk_version": "0"}
                url = tinker_server.url + "/api/v1/create_session"
                answers = await asyncio.gather(*[client.post(url, json=body) for _ in range(20)])
                return {answer.json()["session_id"] for answer in answers}

        assert len(asyncio.run(program())) == 20


    class TestOwnSettings:
        @pytest.fixture
        def tinker_server_settings(self):
            return ta.ServerSettings(base_model="tinker-actors/tiny", api_keys=("tml-own",))

        def test_own(self, tinker_server):
            assert tinker_server.key == "tml-own"
            assert ask(tinker_server) == ["tinker-actors/tiny"]


    def test_a_failing_test_fails_alone(tinker_server):
        seen.append(tinker_server.url)
        raise RuntimeError("the test's own")


    def test_every_server_has_ended():
        assert len(seen) == 3
        for url in seen:
            with pytest.raises(httpx.ConnectError):
                httpx.get(url + "/api/v1/healthz")
        assert not [thread for thread in threading.enumerate() if thread.name == "local-server"]
"""


def plugged(folder: Path) -> dict[str, str]:
    """An environment in which the distribution is installed as pyproject.toml says, whatever is installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    info = folder / "site" / "tinker_actors-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0\n")
    points = [f"{name} = {place}" for name, place in project["entry-points"]["pytest11"].items()]
    (info / "entry_points.txt").write_text("\n".join(("[pytest11]", *points, "")))
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(info.parent)))}


def run(folder: Path, suite: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_theirs.py").write_text(textwrap.dedent(suite))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *arguments]
    return subprocess.run(
        command, cwd=folder, env=plugged(folder), capture_output=True, text=True, timeout=120, check=False
    )


def test_plain_trio_and_asyncio_tests_get_a_server_each(tmp_path: Path) -> None:
    done = run(tmp_path, SUITE, "-o", "trio_mode=true")
    assert re.search(r"1 failed, 5 passed", done.stdout), done.stdout + done.stderr
    assert "RuntimeError: the test's own" in done.stdout


def test_a_run_that_asks_for_no_server_imports_none(tmp_path: Path) -> None:
    suite = """
        import sys

        def test_nothing_heavy_is_there(request):
            assert request.config.pluginmanager.has_plugin("tinker_actors")
            assert not {"numpy", "starlette", "hypercorn", "tinker_actors.local.server"} & set(sys.modules)
    """
    done = run(tmp_path, suite)
    assert " 1 passed" in done.stdout, done.stdout + done.stderr


def test_the_fixture_is_listed_with_what_it_is(tmp_path: Path) -> None:
    done = run(tmp_path, "", "--fixtures")
    assert re.search(r"tinker_server .*\n +A Tinker-compatible server on loopback", done.stdout), done.stdout
