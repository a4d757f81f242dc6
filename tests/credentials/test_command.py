"""The credential command: bounded, without a shell, and never a secret in its errors."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest
import trio

from tinker_actors.config import Secret
from tinker_actors.credentials.command import run_command
from tinker_actors.errors import AuthenticationError, CredentialUnavailable


def python(code: str, *words: str) -> Secret:
    return Secret(shlex.join([sys.executable, "-c", code, *words]))


async def failure(command: Secret, timeout: float = 30.0) -> str:
    with pytest.raises(CredentialUnavailable) as failed:
        await run_command(command, timeout=timeout)
    assert isinstance(failed.value, AuthenticationError)
    assert "TINKER_CREDENTIAL_CMD" in str(failed.value)
    return str(failed.value)


async def test_what_it_prints_is_the_credential():
    assert await run_command(python("print('\\n tml-printed \\n')")) == Secret("tml-printed")
    assert await run_command(python("import sys; print(sys.argv[1])", "tml-a-word")) == Secret("tml-a-word")


async def test_no_shell_ever_reads_it(tmp_path: Path):
    mark = tmp_path / "mark"
    command = python(
        "import sys; print('tml-' + str(len(sys.argv)))", ";", "touch", str(mark), "$(touch x)", "&&", "|"
    )
    assert await run_command(command) == Secret("tml-7")
    assert not mark.exists()


async def test_its_words_to_stderr_are_in_the_error_and_no_secret_is():
    code = (
        "import sys; print('tml-planted-out'); "
        "sys.stderr.write('vault is sealed; tml-planted-err eyJplanted.x.y ' + sys.argv[1]); sys.exit(3)"
    )
    text = await failure(python(code, "--token=planted-word"))
    assert "ended with status 3" in text
    assert "vault is sealed" in text
    assert "planted" not in text


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('planted-without-prefix')", "printed no credential: it does not start with 'tml-'"),
        ("pass", "printed no credential: it is missing"),
        ("print('tml-planted tml-planted')", "printed no credential"),
        ("print('tml-planted\\nwarning: planted')", "printed no credential"),
        ("import sys; sys.stdout.buffer.write(b'tml-\\xff\\x00planted')", "printed no credential"),
        ('print(\'{"key": "tml-planted"}\')', "printed no credential: it does not start with 'tml-'"),
        ("print('tml-planted', flush=True); import os; os.kill(os.getpid(), 9)", "ended with status -9"),
        ("print('tml-planted', flush=True); raise SystemExit(1)", "ended with status 1"),
        ("import sys\nwhile True: print('planted' * 1000)", "wrote more than 65536 bytes"),
        ("import sys\nwhile True: sys.stderr.write('x' * 1000)", "wrote more than 65536 bytes"),
    ],
)
async def test_output_that_is_no_credential(code: str, words: str):
    text = await failure(python(code))
    assert words in text
    assert "planted" not in text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/no/such/program --key=planted", "can't be started (No such file"),
        ("'planted", "can't be split into words"),
        ("''", "is empty"),
    ],
)
async def test_a_command_that_can_not_run(command: str, words: str):
    text = await failure(Secret(command))
    assert words in text
    assert "planted" not in text


@pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX's")
async def test_one_that_never_ends_is_ended_with_what_it_started(tmp_path: Path):
    note = tmp_path / "pid"
    code = (
        "import pathlib, subprocess, sys, time; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid)); time.sleep(600)"
    )
    before = trio.current_time()
    text = await failure(python(code), timeout=3.0)
    assert "took more than 3 s" in text
    assert trio.current_time() - before < 20.0
    child = int(note.read_text())
    with trio.fail_after(10):
        while _runs(child):  # noqa: ASYNC110  # another process's end has no event
            await trio.sleep(0.05)


async def test_a_cancelled_caller_leaves_no_process(tmp_path: Path):
    note = tmp_path / "pid"
    code = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(600)"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_command, python(code))
        with trio.fail_after(20):
            while not (note.exists() and note.read_text()):  # noqa: ASYNC110  # nor has its file
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert not _runs(int(note.read_text()))


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
