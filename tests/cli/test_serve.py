"""``serve``: its settings, and how it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.cli.processes import COMMAND, environment, running
from tests.local.tokenizer_folders import make_folder
from tinker_actors.cli.arguments import ServeOptions, parse
from tinker_actors.cli.serve import settings
from tinker_actors.config import Secret
from tinker_actors.local import ServerSettings


def test_what_was_not_asked_for_keeps_its_default() -> None:
    assert settings(ServeOptions()) == ServerSettings()


def test_the_help_tells_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["serve", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"largest LoRA rank (default {ServerSettings().max_rank})" in said
    assert f"(default {ServerSettings().base_model})" in said


def test_every_option_reaches_the_server(tmp_path: Path) -> None:
    options = ServeOptions(
        directory=tmp_path, base_models=("tinker-actors/tiny", "b"), max_rank=8, api_keys=(Secret("tml-k"),)
    )
    expected = ServerSettings(
        directory=tmp_path, base_model="tinker-actors/tiny", base_models=("b",), max_rank=8, api_keys=("tml-k",)
    )
    assert settings(options) == expected
    named = (("lab", Secret("tml-a")), ("me", Secret("tml-b")), ("lab", Secret("tml-c")))
    assert settings(ServeOptions(named_keys=named)) == ServerSettings(
        owners={"lab": ("tml-a", "tml-c"), "me": ("tml-b",)}
    )


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(number: signal.Signals) -> None:
    with running("serve", "--port", "0", "--base-model", "tinker-actors/tiny") as server:
        assert server.wait_for("listening on ").startswith("listening on http://127.0.0.1:")
        server.process.send_signal(number)
        assert server.finish() == (0, server.lines, "")


@pytest.mark.process
def test_it_ends_with_its_standard_input() -> None:
    command = [*COMMAND, "serve", "--port", "0", "--base-model", "tinker-actors/tiny", "--stop-with-stdin"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline().startswith("listening on ")
            process.stdin.close()
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.mark.process
def test_an_address_that_others_reach_needs_keys_which_nothing_shows() -> None:
    arguments = ("serve", "--host", "0.0.0.0", "--port", "0", "--base-model", "tinker-actors/tiny")
    with running(*arguments) as server:
        code, lines, errors = server.finish()
    assert (code, lines) == (2, [])
    assert errors.startswith("tinker-actors serve: host: '0.0.0.0' is reached from other machines")
    assert errors.count("\n") == 1
    with running(*arguments, TINKER_ACTORS_SERVER_KEYS="tml-planted,tml-second") as server:
        port = server.wait_for("listening on ").strip().rpartition(":")[2]
        for key, status in (("tml-planted", 200), ("tml-second", 200), ("tml-other", 401), ("", 401)):
            url = f"http://127.0.0.1:{port}/api/v1/get_server_capabilities"
            assert httpx.get(url, headers={"x-api-key": key}).status_code == status
        shown = Path(f"/proc/{server.process.pid}/cmdline").read_text()
        server.process.terminate()
        code, lines, errors = server.finish()
    assert (code, errors) == (0, "")
    assert "planted" not in shown + "".join(lines)


@pytest.mark.process
def test_a_port_in_use_is_named_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with running("serve", "--port", str(port), "--base-model", "tinker-actors/tiny") as server:
            code, lines, errors = server.finish()
    assert (code, lines) == (1, [])
    assert errors.startswith(f"tinker-actors serve: can't serve at 127.0.0.1:{port} (")
    assert errors.count("\n") == 1


@pytest.mark.process
def test_a_directory_that_cannot_be_used_is_named_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "file" / "folder"
    folder.parent.write_text("")
    with running("serve", "--port", "0", "--base-model", "tinker-actors/tiny", "--directory", str(folder)) as server:
        code, lines, errors = server.finish()
    assert (code, lines) == (2, [])
    assert errors.startswith("tinker-actors serve: --directory: can't be used (")
    assert str(folder) in errors
    assert errors.count("\n") == 1


@pytest.mark.process
def test_an_unknown_base_model_is_named_in_one_line() -> None:
    with running("serve", "--port", "0", "--base-model", "nobody/nothing") as server:
        code, lines, errors = server.finish()
    assert (code, lines) == (2, [])
    assert "nobody/nothing" in errors
    assert errors.count("\n") == 1


@pytest.mark.process
def test_a_model_of_any_name_is_served_and_a_limit_counts(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, 300)
    arguments = ("serve", "--port", "0", "--model", f"Qwen/Qwen3-8B={folder}", "--limit", "max_body_bytes=1000")
    with running(*arguments) as server:
        url = server.wait_for("listening on ").removeprefix("listening on ").strip() + "/api/v1"
        headers = {"x-api-key": "tml-any"}
        offered = httpx.get(f"{url}/get_server_capabilities", headers=headers).json()["supported_models"]
        assert [model["model_name"] for model in offered] == ["tinker-actors/base-s", "Qwen/Qwen3-8B"]
        body = {"tags": [], "user_metadata": {"note": "x" * 1000}, "sdk_version": "0"}
        assert httpx.post(f"{url}/create_session", headers=headers, json=body).status_code == 413


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "tinker-actors/x=FOLDER"), "aliases: 'tinker-actors/x' is a model of its own"),
        (("--model", "m=FOLDER"), "aliases: 'm': there is no file FOLDER/tokenizer.json"),
        (("--faults", "FOLDER/none.json"), "faults: FOLDER/none.json can't be read: No such file"),
        (
            ("--faults", "FOLDER/crash.json"),
            "FOLDER/crash.json: faults[0]: is a CrashAt, which happens in a client's program, and not at a server's",
        ),
        (("--limit", "poll_hold=31"), "poll_hold: 31.0 is out of range"),
        (("--limit", "max_queued_samples=-1"), "max_queued_samples: -1 is not positive"),
    ],
)
def test_what_cannot_be_served_is_named_in_one_line(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    (tmp_path / "crash.json").write_text('{"faults": [{"type": "CrashAt", "point": "training.sent"}]}')
    given = [argument.replace("FOLDER", str(tmp_path)) for argument in arguments]
    with running("serve", "--port", "0", "--base-model", "tinker-actors/tiny", *given) as server:
        code, lines, errors = server.finish()
    assert (code, lines) == (2, [])
    assert errors.startswith(f"tinker-actors serve: {words.replace('FOLDER', str(tmp_path))}")
    assert errors.count("\n") == 1


@pytest.mark.process
def test_planned_faults_happen_and_are_said(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text('{"faults": [{"type": "Status", "path": "/healthz", "nth": 2, "status": 503}]}')
    arguments = ("serve", "--port", "0", "--base-model", "tinker-actors/tiny", "--faults", str(plan))
    with running(*arguments, "--fault-seed", "1") as server:
        url = server.wait_for("listening on ").removeprefix("listening on ").strip()
        assert [httpx.get(f"{url}/api/v1/healthz").status_code for _ in range(3)] == [200, 503, 200]
        server.process.terminate()
        code, _, errors = server.finish()
    assert code == 0
    assert errors.startswith("GET /api/v1/healthz meets Status(path='/healthz', nth=2, times=1, status=503")
