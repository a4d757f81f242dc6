"""What a job's block does with signals: for itself, and for the processes that its program forks."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.process

FORKED = """
    import os, signal, sys, time
    from tinker_actors.recovery.jobs.interruption import Interruption

    asked = []
    with Interruption(asked.append):
        ready, tell = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # one that does not hear of its end has one all the same
            try:
                os.write(tell, b".")
                time.sleep(60)
            except KeyboardInterrupt:
                os._exit(7)
            os._exit(8)
        os.read(ready, 1)
        os.kill(child, getattr(signal, sys.argv[1]))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), asked)
"""

IGNORED = """
    import os, signal
    from tinker_actors.recovery.jobs.interruption import Interruption

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = []
    with Interruption(asked.append):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    print(asked, signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
"""


def run(program: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        preexec_fn=_signals_as_usual,
    )
    return done.stdout.strip()


def _signals_as_usual() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", -signal.SIGTERM), ("SIGINT", 7)])
def test_a_process_that_the_program_forks_can_be_ended(name: str, code: int):
    assert run(FORKED, name) == f"{int(code)} []"


def test_what_a_process_ignores_stays_ignored():
    assert run(IGNORED) == "['SIGTERM'] True"
