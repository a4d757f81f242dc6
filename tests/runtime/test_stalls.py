"""Stalls: who holds the loop or the interpreter is named, while it does or right after; on real time."""

from __future__ import annotations

import ctypes
import itertools
import logging
import random
import threading
import time
from typing import Any

import pytest
import trio

from supervision import ActorSystem, ChildSpec, open_system
from tests.clients.odd_server import OddServer
from tests.clients.scenario import train
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.errors import InvalidInput
from tinker_actors.runtime import open_runtime
from tinker_actors.runtime.stalls import Stalls, StallWatch
from tinker_actors.testing.network import open_network
from tinker_actors.testing.simulation import World

ALARM = 0.2


def stalls(caplog: pytest.LogCaptureFixture, words: str = "the event loop") -> list[str]:
    """What was told, without what a machine that has stood still brings about."""
    told = [record.getMessage() for record in caplog.records if record.name == "tinker_actors.stalls"]
    return [text for text in told if text.startswith(words)]


async def until_told(caplog: pytest.LogCaptureFixture, words: str) -> str:
    with trio.fail_after(30):
        while True:
            for text in stalls(caplog, words):
                return text
            await trio.sleep(0.02)


def watching() -> set[str]:
    return {thread.name for thread in threading.enumerate() if "stalls" in thread.name}


def run(body: Any, alarm: float = ALARM) -> list[float]:
    lags: list[float] = []

    async def main() -> None:
        async with open_system("s", random=random.Random(0)) as system:
            await system.start_child(ChildSpec("stalls", lambda: Stalls(alarm, lags.append)))
            await body(system)

    trio.run(main)
    return lags


def holds_the_loop(until: Any) -> None:
    end = time.monotonic() + 10
    while not until() and time.monotonic() < end:
        time.sleep(0.01)


def holds_the_interpreter(seconds: float) -> None:
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # unlike CDLL, it keeps the GIL


def test_what_holds_the_loop_is_named_while_it_does(caplog: pytest.LogCaptureFixture):
    async def body(system: ActorSystem) -> None:
        await trio.sleep(0.3)
        holds_the_loop(lambda: stalls(caplog))  # until it is told: while it is held, and not after
        told = stalls(caplog)
        assert len(told) == 1
        assert "the event loop has been held for" in told[0]
        assert "in holds_the_loop" in told[0]
        await until_told(caplog, "the event loop runs again after")

    run(body)
    assert len(stalls(caplog)) == 2


def test_what_holds_the_interpreter_is_named_right_after(caplog: pytest.LogCaptureFixture):
    async def body(system: ActorSystem) -> None:
        await trio.sleep(0.3)
        thread = threading.Thread(target=holds_the_interpreter, args=(3 * ALARM,), name="greedy")
        thread.start()
        text = await until_told(caplog, "no thread of Python's ran for")
        assert "the machine slept" in text
        await trio.to_thread.run_sync(thread.join)

    run(body)


def test_stalls_that_go_on_are_told_at_growing_intervals(caplog: pytest.LogCaptureFixture):
    watch = StallWatch(1.0, None, 0, list[float]().append)  # pyright: ignore[reportArgumentType]  # no loop is asked
    told = [second for second in range(0, 4000, 5) if watch._may_tell(float(second))]
    assert told == [0, 10, 30, 70, 150, 310, 630, 1230, 1830, 2430, 3030, 3630]
    assert "there were 1 more stalls since" in caplog.text
    assert watch._may_tell(20_000.0)  # long after the last one: the first of another time
    assert watch._may_tell(20_010.0)


def test_who_only_waits_is_not_told(caplog: pytest.LogCaptureFixture):
    async def body(system: ActorSystem) -> None:
        await trio.to_thread.run_sync(time.sleep, 2.5)

    with caplog.at_level(logging.DEBUG):
        run(body, alarm=1.0)  # longer than a busy machine lets any thread wait for its turn
    assert stalls(caplog) == []


def test_the_watch_ends_with_its_runtime_and_is_not_there_when_time_is_virtual():
    async def body(system: ActorSystem) -> None:
        with trio.fail_after(30):
            while not watching():  # noqa: ASYNC110  # a thread has no event of trio's
                await trio.sleep(0.01)
            await system.restart_child("stalls")
            while watching() != {"s/stalls#2"}:  # noqa: ASYNC110  # as above
                await trio.sleep(0.01)

    run(body)
    end = time.monotonic() + 30
    while watching() and time.monotonic() < end:
        time.sleep(0.01)
    assert not watching()

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> set[str]:
        assert world.runtime.tree().find("runtime/stalls") is not None
        return watching()

    assert train(story).value == set()


@pytest.mark.parametrize("alarm", [0, 0.01, -1.0, float("nan"), float("inf"), "5", True])
async def test_an_alarm_that_is_none(alarm: Any):
    with pytest.raises(InvalidInput, match="stall_alarm"):
        async with open_runtime(base_url="http://127.0.0.1:9", api_key="tml-test", stall_alarm=alarm):
            pass


async def test_none_watches_nothing():
    async with open_runtime(base_url="http://127.0.0.1:9", api_key="tml-test", stall_alarm=None) as runtime:
        assert runtime.tree().find("runtime/stalls") is None


def test_a_heartbeat_that_comes_late_is_told_at_once(caplog: pytest.LogCaptureFixture):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        await trio.sleep(35.0)
        assert "late" not in caplog.text
        clock.jump(20.0)  # the time of a step that holds the loop
        heard = world.runtime.counters()["heartbeats"]
        await trio.sleep(1.0)
        assert world.runtime.counters()["heartbeats"] == heard + 1
        assert caplog.text.count("a heartbeat of session session-0 is") == 1

    train(story)


@pytest.mark.ci
def test_with_threads_that_hold_the_interpreter_for_ten_seconds_a_lapse_of_heartbeats_is_told(
    caplog: pytest.LogCaptureFixture,
):
    beats: list[float] = []
    thrice = trio.Event()

    class Server(OddServer):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["path"].endswith("/session_heartbeat"):
                beats.append(time.monotonic())
                if len(beats) == 3:
                    thrice.set()
            await super().__call__(scope, receive, send)

    def greedy() -> None:
        for _ in range(4):
            holds_the_interpreter(10.0)
            time.sleep(0.05)

    async def main() -> None:
        async with (
            open_network(Server({}, []), random=random.Random(1)) as network,
            open_runtime(base_url="https://server", api_key="tml-test", transport=network.transport()) as runtime,
        ):
            service = await runtime.create_service_client()
            beats.append(time.monotonic())
            thread = threading.Thread(target=greedy)
            thread.start()
            await trio.to_thread.run_sync(thread.join)
            with trio.fail_after(60.0):
                await thrice.wait()  # a beat that was held in its attempt is tried again later
            await service.close()

    trio.run(main)
    lapses = [later - sooner for sooner, later in itertools.pairwise(beats) if later - sooner > 15.0]
    assert len([r for r in caplog.records if "a heartbeat of session" in r.getMessage()]) >= len(lapses)
    assert len(stalls(caplog, "no thread of Python's ran for")) >= 3
