"""Code of the user's that the library calls within its own steps: whatever it raises, all ends in order."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
import trio

from supervision import (
    ActorCrashed,
    ActorDown,
    ActorEnded,
    ActorRestarting,
    ActorSystem,
    Backoff,
    ChildSpec,
    Event,
    Mailbox,
    PlaceClosed,
)
from supervision import end as end_room
from supervision.testing import run_seeded
from tests.supervision.world import Add, Boom, Counter, Crash, CrashCall, Get, Log, Nap, child, settle, system


def leave(*_: object) -> None:
    raise SystemExit(7)


class Ticking(Counter):
    """Casts to itself, while it naps and has room for nothing."""

    async def init(self) -> None:
        await super().init()
        self.context.send_after(1, Add())


Program = Callable[[ActorSystem, Log], Awaitable[None]]


async def closes(s: ActorSystem, log: Log) -> None:
    await s.start_child(child("a", log, on_close=leave))
    await s.stop_child("a")


async def is_monitored(s: ActorSystem, log: Log) -> None:
    ref = await s.start_child(child("a", log))
    ref.monitor(leave)
    await ref.cast(Crash())


async def loses_what_is_in_hand(s: ActorSystem, log: Log) -> None:
    ref = await s.start_child(child("a", log, on_undelivered=leave))
    await ref.cast(Crash())


async def drops(s: ActorSystem, log: Log) -> None:
    box = Mailbox(capacity=1, when_full="drop_oldest")
    ref = await s.start_child(child("a", log, on_undelivered=leave, mailbox=box))
    for _ in range(2):
        ref.cast_nowait(Add())


async def drops_a_timers_message(s: ActorSystem, log: Log) -> None:
    spec = ChildSpec("a", lambda: Ticking(log), on_undelivered=leave, mailbox=Mailbox(capacity=0))
    ref = await s.start_child(spec)
    await ref.call(Nap(2))


def is_heard(kind: type[Event]) -> Program:
    async def program(s: ActorSystem, log: Log) -> None:
        ref = await s.start_child(child("a", log, restart="transient"))
        s.events.subscribe(lambda event: leave() if isinstance(event, kind) else None)
        await ref.cast(Crash())
        await settle()
        await s.stop_child("a")

    return program


PROGRAMS: dict[str, Program] = {
    "on_close": closes,
    "monitor": is_monitored,
    "on_undelivered, in hand": loses_what_is_in_hand,
    "on_undelivered, dropped": drops,
    "on_undelivered, in the timers' task": drops_a_timers_message,
    "listener, a crash": is_heard(ActorCrashed),
    "listener, an end": is_heard(ActorEnded),
    "listener, a restart": is_heard(ActorRestarting),
    "listener, a close": is_heard(PlaceClosed),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_system_exit_out_of_a_hook_or_a_listener_ends_the_system_in_order(program: str) -> None:
    log = Log()

    async def main() -> None:
        async with system(log) as s:
            await s.start_child(child("first", log))
            await PROGRAMS[program](s, log)
            await trio.sleep_forever()

    with pytest.raises(SystemExit) as caught:
        run_seeded(main, seed=1, limit=1e4)
    assert caught.value.code == 7
    begun = sorted(line[:2] for line in log.of("init"))
    ended = [line[:2] for line in log.of("terminate")]
    assert sorted(ended) == begun
    assert ended[-1] == ("first", 1)


class Broken(Backoff, frozen=True):
    def delay(self, attempt: int, generator: random.Random) -> float:
        raise Boom("no delay")


def test_a_backoff_that_raises_ends_the_system_in_order() -> None:
    log = Log()

    async def main() -> None:
        async with system(log) as s:
            await s.start_child(child("first", log))
            ref = await s.start_child(child("a", log, backoff=Broken()))
            await ref.cast(Crash())
            await trio.sleep_forever()

    with pytest.raises(Boom, match="no delay"):
        run_seeded(main, seed=1, limit=1e4)
    assert log.of("terminate") == [("a", 1, "crash", False), ("first", 1, "shutdown", False)]


def test_a_fault_of_the_librarys_own_ends_the_system_and_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()

    def fail(*_: object) -> None:
        monkeypatch.undo()
        raise Boom("a fault of the library's")

    async def main() -> None:
        async with system(log) as s:
            await s.start_child(child("first", log))
            ref = await s.start_child(child("a", log))
            monkeypatch.setattr(end_room, "_judge", fail)
            await ref.cast(Crash())
            await trio.sleep_forever()

    with pytest.raises(Boom, match="a fault of the library's"):
        run_seeded(main, seed=1, limit=1e4)
    assert log.of("terminate") == [("first", 1, "shutdown", False)]


def test_a_hook_that_raises_stops_nothing() -> None:
    def fail(*_: object) -> None:
        raise Boom("in a hook")

    async def main() -> None:
        log = Log()
        async with system(log) as s:
            ref = await s.start_child(child("a", log, on_close=fail, on_undelivered=fail))
            ref.monitor(fail)
            await ref.cast(Crash())
            with pytest.raises(ActorDown):
                await ref.call(CrashCall())
            assert await ref.call(Get()) == 0
            await s.stop_child("a")
            assert s.children()["a"].state == "stopped"

    run_seeded(main, seed=1, limit=1e4)
