"""^C and SIGTERM at real processes, in each phase of a system's life."""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

PROGRAM = "tests.supervision.phases"
ROOT = Path(__file__).parents[2]

PHASES = {
    "starting": ["first"],
    "idle": ["second", "first"],
    "handling": ["second", "first"],
    "restarting": ["first"],  # the other has no life now
    "mending": [],  # both have been stopped, and none has started again
    "starting a child": ["second", "first"],
    "stopping": ["second", "first"],
    "terminating": ["second", "first"],
}
"""Each phase, and whose terminate() runs to its end after the signal, in order."""


async def disturbed(phase: str, signals: list[int], ends: dict[str, list[str]], seconds: dict[str, float]) -> None:
    """Run the program up to the phase, send it the signals, and keep what it says after that."""
    process = await trio.lowlevel.open_process([sys.executable, "-m", PROGRAM, phase], stdout=-1, stderr=-1, cwd=ROOT)
    assert process.stdout is not None
    assert process.stderr is not None
    text = ""
    try:
        with trio.fail_after(120):
            while "\nphase\n" not in f"\n{text}":
                received = await process.stdout.receive_some()
                assert received, (text, (await process.stderr.receive_some()).decode())
                text += received.decode()
            before = trio.current_time()
            for number in signals:
                process.send_signal(number)
                await trio.sleep(0.3 if len(signals) > 1 else 0)
            async for chunk in process.stdout:
                text += chunk.decode()
            assert await process.wait() == 0, (await process.stderr.receive_some()).decode()
        seconds[phase] = trio.current_time() - before
        ends[phase] = text.partition("phase\n")[2].splitlines()
    finally:
        if process.returncode is None:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
        await process.stdout.aclose()
        await process.stderr.aclose()


def run_all(phases: list[str], signals: list[int]) -> tuple[dict[str, list[str]], dict[str, float]]:
    ends: dict[str, list[str]] = {}
    seconds: dict[str, float] = {}

    async def run() -> None:
        limit = trio.CapacityLimiter(3)

        async def one(phase: str) -> None:
            async with limit:
                await disturbed(phase, signals, ends, seconds)

        async with trio.open_nursery() as nursery:
            for phase in phases:
                nursery.start_soon(partial(one, phase))

    trio.run(run)
    return ends, seconds


@pytest.mark.process
@pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_in_each_phase_ends_all_in_order(number: int, said: str) -> None:
    ends, _ = run_all(list(PHASES), [number])
    assert ends == {phase: [*(f"end {name}" for name in names), said] for phase, names in PHASES.items()}


@pytest.mark.process
def test_an_interrupt_breaks_a_handler_that_spins_and_a_second_one_a_terminate_that_hangs() -> None:
    ends, _ = run_all(["spinning"], [signal.SIGINT])
    assert ends == {"spinning": ["end second", "end first", "interrupted"]}
    ends, seconds = run_all(["hanging"], [signal.SIGINT, signal.SIGINT])
    assert ends == {"hanging": ["interrupted"]}
    assert seconds["hanging"] < 20  # not its minute
