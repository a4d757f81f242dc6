"""Telemetry under random faults: what was taken is in the server's book, each event once, in order."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.telemetry.reporting import SESSION, crash, report, reported, telemetry_of
from tinker_actors.clients import ServiceClient
from tinker_actors.testing.faults import (
    CrashAt,
    Delay,
    DropAfter,
    DropBefore,
    Duplicate,
    Fault,
    FaultPlan,
    Status,
    Truncate,
)
from tinker_actors.testing.simulation import World

PATH = "/telemetry"
EXAMPLES = max(100, settings().max_examples)


class Log(msgspec.Struct, frozen=True):
    count: int
    as_exception: bool = False


class Sleep(msgspec.Struct, frozen=True):
    seconds: float


class Flush(msgspec.Struct, frozen=True):
    timeout: float


class Crash(msgspec.Struct, frozen=True):
    actor: str


Action: TypeAlias = Log | Sleep | Flush | Crash

ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.builds(Log, st.sampled_from((1, 1, 2, 30, 99, 100, 101, 250)), st.booleans()),
    st.builds(Sleep, st.sampled_from((0.0, 0.1, 3.0, 9.9, 10.0, 40.0))),
    st.builds(Flush, st.sampled_from((0.0, 0.005, 1.0, 60.0))),
    st.builds(Crash, st.sampled_from(("telemetry", "telemetry-sender"))),
)
NTH, TIMES = st.integers(1, 6), st.integers(1, 3)
FAULTS: st.SearchStrategy[Fault] = st.one_of(
    st.builds(DropBefore, path=st.just(PATH), nth=NTH, times=TIMES, known=st.booleans()),
    st.builds(DropAfter, path=st.just(PATH), nth=NTH, times=TIMES),
    st.builds(Duplicate, path=st.just(PATH), nth=NTH, times=TIMES),
    st.builds(Truncate, path=st.just(PATH), nth=NTH, keep=st.integers(0, 5)),
    # more than the client waits: the batch arrives after its own repeat
    st.builds(Delay, path=st.just(PATH), nth=NTH, seconds=st.sampled_from((0.5, 4.9, 7.0)), reply=st.booleans()),
    st.builds(
        Status,
        path=st.just(PATH),
        nth=NTH,
        times=TIMES,
        status=st.sampled_from((401, 402, 403, 408, 429, 500, 503)),
        retry_after=st.sampled_from((None, 0.5, 20.0)),
        after=st.booleans(),
    ),
)
CRASHES = st.builds(
    CrashAt, point=st.sampled_from(("telemetry.before_send", "telemetry.sent")), nth=st.integers(1, 4)
)
PLANS = st.builds(
    lambda faults, crashes: FaultPlan((*faults, *crashes)),
    st.lists(FAULTS, max_size=4),
    st.lists(CRASHES, max_size=1),
)


@settings(max_examples=EXAMPLES)
@given(st.lists(ACTIONS, max_size=12), PLANS, st.sampled_from((5, 120, 10_000)), st.integers(0, 2**32 - 1))
@example([Log(1), Flush(1.0)], FaultPlan((DropAfter(path=PATH, times=3),)), 10_000, 0)
@example([Log(250), Crash("telemetry-sender"), Log(2)], FaultPlan((CrashAt(point="telemetry.sent"),)), 10_000, 0)
@example(
    [Log(99), Flush(0.005), Log(1), Flush(60.0)], FaultPlan((Status(path=PATH, status=500, after=True),)), 120, 0
)
@example([], FaultPlan((CrashAt(point="telemetry.before_send", nth=2),)), 120, 0)
@example([Log(250)], FaultPlan(), 5, 0)
def test_what_was_taken_is_in_the_server_s_book_once_and_in_order(
    actions: list[Action], plan: FaultPlan, room: int, seed: int
):
    async def story(world: World, service: ServiceClient) -> None:
        telemetry = telemetry_of(service)
        telemetry.outbox._most_events = room
        taken: list[str] = []
        tried = 0
        crashes = {"telemetry": 3, "telemetry-sender": 2}  # one more and it is given up
        for action in actions:
            match action:
                case Log(count=count, as_exception=as_exception):
                    for _ in range(count):
                        name = f"no. {tried}"
                        tried += 1
                        had_room = len(telemetry.outbox) < room
                        accepted = telemetry.log_exception(KeyError(name)) if as_exception else telemetry.log(name)
                        assert accepted is had_room
                        if accepted:
                            taken.append(f"{KeyError(name)}" if as_exception else name)
                        assert len(telemetry.outbox) <= room
                case Sleep(seconds=seconds):
                    await trio.sleep(seconds)
                case Flush(timeout=timeout):
                    if await telemetry.flush(timeout):
                        assert told(world, service) == taken
                case Crash(actor=actor):
                    if crashes[actor]:
                        crashes[actor] -= 1
                        await crash(world, f"{SESSION}/{actor}")
                        await trio.sleep(0.01)  # a session that is ending already restarts nobody
        assert await telemetry.flush(3_600.0)
        assert told(world, service) == taken
        status = telemetry.status()
        assert (status.recorded, status.waiting, status.lost) == (len(taken) + 1, 0, tried - len(taken))
        assert status.sent == status.recorded
        await service.aclose()
        kinds = [event.kind for event in reported(world, service)]
        assert [kinds[0], kinds.count("SESSION_START")] == ["SESSION_START", 1]
        if telemetry.status().lost == status.lost:  # its last words found their way within five seconds
            assert [kinds[-1], kinds.count("SESSION_END")] == ["SESSION_END", 1]
        indexes = [event.fields["event_session_index"] for event in reported(world, service)]
        assert indexes == sorted(set(indexes))

    report(story, *plan.faults, seed=seed)


def told(world: World, service: ServiceClient) -> list[str]:
    """The messages and names of all events in the book but the session's start."""
    return [str(event.fields.get("error_message", event.fields.get("event_name"))) for event in own(world, service)]


def own(world: World, service: ServiceClient):
    return [event for event in reported(world, service) if not event.kind.startswith("SESSION_")]
