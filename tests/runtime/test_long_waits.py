"""Nothing waits silently: what waits is listed with its reason, logged when it lasts, and written at SIGUSR1."""

from __future__ import annotations

import io
import logging
import os
import random
import re
import signal
import subprocess
import sys
import textwrap

import pytest
import trio

from supervision import ActorRestarted, ChildSpec, open_system
from tests.clients.scenario import batch, train
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.errors import WaitTimeout
from tinker_actors.flow.pending import PendingTable, span
from tinker_actors.local import ServerSettings
from tinker_actors.runtime.long_waits import LongWaits
from tinker_actors.testing.faults import Delay, Status
from tinker_actors.testing.operations import BASE_MODEL, PROMPT
from tinker_actors.testing.simulation import World
from tinker_actors.types import AdamParams, SamplingParams


def waiting_lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "tinker_actors.waiting"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 s"), (9.46, "9.5 s"), (59.94, "59.9 s"), (59.96, "1 m 00 s"), (200, "3 m 20 s"), (7500, "2 h 05 m")],
)
def test_times_are_for_people(seconds: float, text: str):
    assert span(seconds) == text


def test_each_row_says_what_it_waits_for():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        futures = [await client.forward_backward(batch(1)), await client.optim_step(AdamParams())]
        await trio.sleep(12.0)
        rows = [str(row) for row in world.runtime.pending()]
        with pytest.raises(WaitTimeout) as late:
            await futures[0].result(timeout=0.5)
        assert re.sub(r"12\.\d s", "12.5 s", rows[0]) in str(late.value)
        for future in futures:
            await future
        return rows

    rows = train(story, Status(path="/forward_backward", status=503, times=6)).value
    assert re.fullmatch(
        r"session-0/training-0#1 forward_backward: sent for 12\.\d s \(try \d in \S+ s after HTTP 503\)", rows[0]
    )
    assert re.fullmatch(r"session-0/training-0#2 optim_step: accepted for 12\.\d s \(behind #1\)", rows[1])


def test_who_waits_for_room_is_listed():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        async def third() -> None:
            await (await client.optim_step(AdamParams()))

        for _ in range(2):
            await client.optim_step(AdamParams())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(third)
            await trio.sleep(3.0)
            return [str(row) for row in world.runtime.pending()]

    rows = train(story, Delay(path="/optim_step", seconds=20.0), max_pending=2).value
    assert re.fullmatch(
        r"session-0/training-0 optim_step: waiting to be accepted for 3\.0 s "
        r"\(behind 2 unfinished operations of \d+ bytes\)",
        rows[-1],
    )


def test_a_wait_that_lasts_is_logged_once_and_then_at_growing_intervals(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        caplog.clear()
        await (await client.optim_step(AdamParams()))

    train(story, Status(path="/optim_step", status=429, retry_after=100.0))
    lines = waiting_lines(caplog)
    assert [re.findall(r"sent for (\S+ .*?) \(", text) for _, text in lines] == [
        ["10.0 s"],
        ["20.0 s"],
        ["40.0 s"],
        ["1 m 20 s"],
    ]
    assert all(level == "WARNING" and text.endswith("(try 2 in 100.0 s after HTTP 429)") for level, text in lines)


def test_a_wait_in_which_nothing_is_wrong_is_no_warning(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        caplog.clear()
        for future in [await client.forward_backward(batch(1)), await client.optim_step(AdamParams())]:
            await future

    train(story, Delay(path="/forward_backward", seconds=15.0))
    behind = [line for line in waiting_lines(caplog) if "behind #1" in line[1]]
    assert [level for level, _ in behind] == ["INFO"]


def test_waits_of_a_kind_are_one_line(caplog: pytest.LogCaptureFixture):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        caplog.clear()
        async with trio.open_nursery() as nursery:
            for seed in range(30):
                nursery.start_soon(sampler.sample, PROMPT, 1, SamplingParams(max_tokens=1, seed=seed))

    train(story, Delay(path="/asample", seconds=15.0, times=30), settings=ServerSettings(base_model=BASE_MODEL))
    lines = [text for _, text in waiting_lines(caplog)]
    assert len(lines) == 1
    assert re.fullmatch(
        r"session-0/sampler-0/\d+ sample: sent for 10\.0 s \(no answer .*\), and 29 more like it", lines[0]
    )


async def test_another_state_begins_anew_and_nothing_ticks_while_nothing_waits(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
):
    table = PendingTable()
    async with open_system("s", random=random.Random(0)) as system:
        await system.start_child(ChildSpec("long-waits", lambda: LongWaits(table)))
        await trio.sleep(1005.0)
        steps = trio.lowlevel.current_statistics()
        assert steps.seconds_to_next_deadline == float("inf")
        with table.track("m#1", "optim_step", "sent") as entry:
            await trio.sleep(9.0)
            entry.enter("promised")
            await trio.sleep(9.0)
            assert waiting_lines(caplog) == []
            await trio.sleep(2.0)
            entry.enter("server paused_capacity", "busy")
            await trio.sleep(3000.0)
        lines = [text for _, text in waiting_lines(caplog)]
        assert lines[0] == "m#1 optim_step: promised for 10.0 s (the server has not said how far it is)"
        assert lines[1] == "m#1 optim_step: server paused_capacity for 10.0 s (busy)"
        assert len(lines) == 2 + 6 + 3  # at 20, 40, ... 640 s, then every ten minutes


def test_a_crash_of_the_watch_changes_nothing_but_the_log():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> list[str]:
        restarted: list[str] = []
        ref = world.runtime.system.child("long-waits")
        with world.runtime.system.events.subscribe(
            lambda event: restarted.append(event.path) if isinstance(event, ActorRestarted) else None
        ):
            await world.runtime.system.restart_child("long-waits")
            await (await client.optim_step(AdamParams()))
        assert ref.name == "long-waits"
        return restarted

    assert train(story).value == ["runtime/long-waits"]


def test_a_dump_shows_the_tree_and_what_waits():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> str:
        future = await client.optim_step(AdamParams())
        await trio.sleep(2.0)
        page = io.StringIO()
        world.runtime.dump(page)
        await future
        return page.getvalue()

    text = train(story, Delay(path="/optim_step", seconds=5.0)).value
    tree, _, waits = text.partition("\n\n")
    assert "training-0" in tree
    assert waits == "Waiting (1):\n  session-0/training-0#1 optim_step: sent for 2.0 s (no answer has come yet)\n\n"


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no such signal here")
@pytest.mark.parametrize("own", [False, True])
def test_sigusr1_writes_the_dump_unless_the_program_has_a_handler_of_its_own(own: bool):
    program = textwrap.dedent(
        f"""
        import os, signal, sys, trio
        import tinker_actors

        written = trio.Event()

        def mine(number, frame):
            print("mine", flush=True)
            written.set()

        class Page:
            def write(self, text):
                return sys.__stderr__.write(text)

            def flush(self):
                written.set()

        signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # whoever started the tests may have it ignored

        async def main():
            sys.stderr = Page()
            if {own}:
                signal.signal(signal.SIGUSR1, mine)
            async with tinker_actors.open_runtime(base_url="http://127.0.0.1:9", api_key="tml-test") as runtime:
                os.kill(os.getpid(), signal.SIGUSR1)
                await written.wait()
            now = signal.getsignal(signal.SIGUSR1)
            print("given back" if now is (mine if {own} else signal.SIG_DFL) else "kept")

        trio.run(main)
        """
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TINKER")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == (["mine", "given back"] if own else ["given back"])
    assert ("Waiting (0):\n  nothing" in done.stderr) is not own
