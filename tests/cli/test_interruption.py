"""Ctrl-C: an orderly end at first, an end at once the second time."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest
import trio

from tinker_actors.cli.interruption import Interruption


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_the_first_signal_cancels_in_order(number: signal.Signals, code: int) -> None:
    heard: list[str] = []
    scope = trio.CancelScope()
    interruption = Interruption(scope, lambda: heard.append("asked"))
    async with trio.open_nursery() as nursery:
        await nursery.start(interruption.watch)
        assert interruption.exit_code is None
        with scope:
            try:
                signal.raise_signal(number)
                await trio.sleep_forever()
            finally:
                heard.append("torn down")
        nursery.cancel_scope.cancel()
    assert heard == ["asked", "torn down"]
    assert interruption.exit_code == code


def test_the_second_signal_leaves_at_once() -> None:
    program = """
        import signal, trio
        from tinker_actors.cli.interruption import Interruption

        async def main():
            scope = trio.CancelScope()
            async with trio.open_nursery() as nursery:
                await nursery.start(Interruption(scope, lambda: print("stopping", flush=True)).watch)
                with scope:
                    try:
                        signal.raise_signal(signal.SIGINT)
                        await trio.sleep_forever()
                    finally:
                        with trio.CancelScope(shield=True):  # what never ends
                            signal.raise_signal(signal.SIGINT)
                            await trio.sleep_forever()

        trio.run(main)
        """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == -signal.SIGINT
    assert done.stdout == "stopping\n"
    assert done.stderr == ""
