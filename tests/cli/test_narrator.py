"""What the runtime lives through reaches the terminal, in order and once."""

from __future__ import annotations

import io
import logging
import random

import pytest
import trio
import trio.testing

from supervision import Actor, Cast, ChildSpec, handles, open_system
from tinker_actors.cli.display import Display
from tinker_actors.cli.narrator import Narrator
from tinker_actors.errors import ClosedError
from tinker_actors.testing.faults import CrashAt, DropBefore, Fired, InjectedCrash


class Crash(Cast, frozen=True):
    """Raise."""


class Fragile(Actor):
    @handles(Crash)
    def crash(self, message: Crash) -> None:
        raise InjectedCrash("injected")


class Refused(Actor):
    async def init(self) -> None:
        raise ClosedError("refused")


def _narrator(fired: list[Fired], step: int = 4) -> tuple[Narrator, io.StringIO]:
    stream = io.StringIO()
    return Narrator(Display(stream, live=False), lambda: fired, lambda: step), stream


async def test_a_crash_its_fault_and_the_restart_are_told_in_order(autojump_clock: trio.testing.MockClock) -> None:
    fired: list[Fired] = []
    narrator, stream = _narrator(fired)
    with narrator.listening() as follow:
        async with open_system("runtime", random=random.Random(0)) as system:
            follow(system)
            ref = await system.start_child(ChildSpec("training-0", Fragile))
            fired.append(Fired(fault=CrashAt(point="training.before_send"), subject="#7", at=0.0, attempt=1))
            await ref.cast(Crash())
            await trio.sleep(10)
            narrator.stopping = True
    labels = [line[:10].strip() for line in stream.getvalue().splitlines()]
    assert labels == ["fault", "crash", "restart", "restart", "stopped", "stopped"]
    assert "training-0: InjectedCrash: injected" in stream.getvalue()
    assert stream.getvalue().splitlines()[-2:] == ["stopped   runtime/training-0", "stopped   runtime"]
    assert narrator.restarts == 1
    assert [(mark.step, mark.text) for mark in narrator.marks] == [(5, "crash before sending")]


async def test_a_refused_start_is_left_to_who_asked_for_it(autojump_clock: trio.testing.MockClock) -> None:
    narrator, stream = _narrator([])
    with narrator.listening() as follow:
        async with open_system("runtime", random=random.Random(0)) as system:
            follow(system)
            with pytest.raises(ClosedError):
                await system.start_child(ChildSpec("manager", Refused))
    assert "crash" not in stream.getvalue()


def test_warnings_of_the_clients_are_told_and_errors_are_not() -> None:
    fired = [Fired(fault=DropBefore(path="/optim_step"), subject="POST /optim_step", at=0.0, attempt=1)]
    narrator, stream = _narrator(fired)
    log = logging.getLogger("tinker_actors.clients")
    with narrator.listening():
        log.warning("%s %s: sending again under seq_id %d", "session-0/training-0", "#3", 3)
        log.warning("the server restarted; sampling again")
        log.error("the lane of session-0/training-0 stops: it is over")
        log.info("not for the terminal")
    log.warning("nobody listens")
    assert stream.getvalue().splitlines() == [
        "fault     the connection is cut before POST /optim_step reaches the server",
        "re-send   training-0 #3: sending again under seq_id 3",
        "note      the server restarted; sampling again",
    ]
